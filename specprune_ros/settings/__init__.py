"""The groups of parameters, each declared once; `specprune_ros.config` puts them together."""
