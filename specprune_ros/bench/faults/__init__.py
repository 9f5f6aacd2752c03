"""`specprune bench --faults`: every fault against every command interface on a live graph, and how soon the arm is at
rest."""
