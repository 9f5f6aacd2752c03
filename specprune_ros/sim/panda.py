"""One table of the Franka arm and hand, from which both the MJCF bodies and the URDF are written.

Numbers: Franka Robotics' published ``franka_description`` (robots/fer/kinematics.yaml, which the FR3 shares;
robots/fr3/inertials.yaml; robots/fr3/joint_limits.yaml; end_effectors/franka_hand). The shapes are our own primitives,
so neither file needs meshes. Frames follow franka_ros2: ``fr3_link0`` (base), ``fr3_hand``, and ``fr3_hand_tcp``
between the finger tips, 0.1034 m below the hand frame. Lengths in m, masses in kg, inertias in kg m^2 about the centre
of mass, angles in rad.
"""

import math
from dataclasses import dataclass

ARM_JOINTS = tuple(f"fr3_joint{i}" for i in range(1, 8))
FINGER_JOINTS = ("fr3_finger_joint1", "fr3_finger_joint2")
TCP = "fr3_hand_tcp"
FINGER_OPEN_M = 0.04
HALF_PI = math.pi / 2

WHITE = (0.95, 0.95, 0.95, 1.0)
LIGHT = (0.78, 0.79, 0.8, 1.0)
GREY = (0.55, 0.57, 0.6, 1.0)
DARK = (0.16, 0.17, 0.19, 1.0)


@dataclass(frozen=True)
class Shape:
    """A primitive in its link's frame: ``box`` (centre a, half sizes b), ``cylinder`` or ``capsule`` (from a to b,
    radius r)."""

    kind: str
    a: tuple
    b: tuple
    r: float = 0.0
    rgba: tuple = WHITE
    collides: bool = False


@dataclass(frozen=True)
class Joint:
    """A joint about or along ``axis`` of the child frame; ``effort`` in N m or N, ``velocity`` in rad/s or m/s."""

    name: str
    kind: str
    lower: float
    upper: float
    velocity: float
    effort: float
    axis: tuple = (0, 0, 1)


@dataclass(frozen=True)
class Link:
    """A link, its frame in the parent's (xyz, then rpy), its joint to the parent (None: fixed), inertial and shapes."""

    name: str
    parent: str | None = None
    xyz: tuple = (0, 0, 0)
    rpy: tuple = (0, 0, 0)
    joint: Joint | None = None
    mass: float = 0.0
    com: tuple = (0, 0, 0)
    inertia: tuple = ()  # xx yy zz xy xz yz
    shapes: tuple = ()


def _arm(i, lower, upper, velocity, effort):
    return Joint(f"fr3_joint{i}", "revolute", lower, upper, velocity, effort)


def _finger(i):
    return Joint(f"fr3_finger_joint{i}", "prismatic", 0.0, FINGER_OPEN_M, 0.2, 100.0, (0, 1, 0))


_FINGER_SHAPES = (
    Shape("box", (0, 0.018, 0.012), (0.0105, 0.008, 0.014), rgba=GREY),
    Shape(
        "box", (0, 0.0065, 0.037), (0.0105, 0.0065, 0.0165), rgba=LIGHT, collides=True
    ),  # the pad: its face is the y = 0 plane
)
_FINGER_INERTIAL = dict(mass=0.0291, com=(0, 0.0152850, 0.0219675), inertia=(8.49e-6, 8.53e-6, 1.77e-6, 0, 0, -1.06e-6))

LINKS = (
    Link(
        "fr3_link0",
        mass=2.3966,
        com=(-0.0172, 0.0004, 0.0745),
        inertia=(0.0090, 0.0115, 0.0085, 0, 0.0020, 0),
        shapes=(
            Shape("box", (-0.06, 0, 0.035), (0.09, 0.075, 0.035)),
            Shape("cylinder", (0, 0, 0), (0, 0, 0.14), 0.085),
        ),
    ),
    Link(
        "fr3_link1",
        "fr3_link0",
        (0, 0, 0.333),
        (0, 0, 0),
        _arm(1, -2.7437, 2.7437, 2.62, 87.0),
        2.9274653454,
        (0.0000004128, -0.0181251324, -0.0386035970),
        (0.023927316485, 0.022482161327, 0.006350098258, 0.0000133179, -0.000114047749, -0.001995032063),
        (
            Shape("cylinder", (0, 0, -0.19), (0, 0, -0.185), 0.075, GREY),
            Shape("capsule", (0, 0, -0.17), (0, 0, -0.03), 0.065),
            Shape("cylinder", (0, -0.075, 0), (0, 0.055, 0), 0.062),
        ),
    ),
    Link(
        "fr3_link2",
        "fr3_link1",
        (0, 0, 0),
        (-HALF_PI, 0, 0),
        _arm(2, -1.7837, 1.7837, 2.62, 87.0),
        2.9355370338,
        (0.0031828864, -0.0743221644, 0.0088146084),
        (0.041938946258, 0.025145148850, 0.061702144729, 0.000202573315, 0.004077784227, -0.004225215801),
        (
            Shape("cylinder", (0, 0, 0.055), (0, 0, 0.078), 0.06, GREY),
            Shape("capsule", (0, -0.02, 0.0), (0, -0.16, 0), 0.062),
        ),
    ),
    Link(
        "fr3_link3",
        "fr3_link2",
        (0, -0.316, 0),
        (HALF_PI, 0, 0),
        _arm(3, -2.9007, 2.9007, 2.62, 87.0),
        2.2449013699,
        (0.0407015686, -0.0048200565, -0.0289730823),
        (0.024101425472, 0.019740532667, 0.019044494482, 0.002404694559, -0.002856269270, -0.002104212684),
        (
            Shape("cylinder", (0, 0, -0.12), (0, 0, -0.113), 0.064, GREY),
            Shape("capsule", (0, 0, -0.10), (0.03, 0, -0.03), 0.058),
            Shape("cylinder", (0.0825, -0.07, 0), (0.0825, 0.07, 0), 0.055),
        ),
    ),
    Link(
        "fr3_link4",
        "fr3_link3",
        (0.0825, 0, 0),
        (HALF_PI, 0, 0),
        _arm(4, -3.0421, -0.1518, 2.62, 87.0),
        2.6155955791,
        (-0.0459100965, 0.0630492960, -0.0085187868),
        (0.034529983219, 0.028881621933, 0.041254711711, 0.013225522660, 0.010151429985, -0.000976283387),
        (
            Shape("cylinder", (0, 0, 0.07), (0, 0, 0.078), 0.052, GREY),
            Shape("cylinder", (0, 0, -0.078), (0, 0, -0.07), 0.052, GREY),
            Shape("capsule", (-0.03, 0.02, 0), (-0.0825, 0.10, 0), 0.056),
        ),
    ),
    Link(
        "fr3_link5",
        "fr3_link4",
        (-0.0825, 0.384, 0),
        (-HALF_PI, 0, 0),
        _arm(5, -2.8065, 2.8065, 5.26, 12.0),
        2.3271207594,
        (-0.0016039605, 0.0292536262, -0.0972965990),
        (0.051610278464, 0.047877297134, 0.016423625579, -0.005715173388, -0.003567316763, 0.010673985109),
        (
            Shape("cylinder", (0, 0, -0.245), (0, 0, -0.238), 0.058, GREY),
            Shape("capsule", (0, 0, -0.22), (0, 0.045, -0.06), 0.05),
            Shape("cylinder", (0, -0.06, 0), (0, 0.075, 0), 0.048),
        ),
    ),
    Link(
        "fr3_link6",
        "fr3_link5",
        (0, 0, 0),
        (HALF_PI, 0, 0),
        _arm(6, 0.5445, 4.5169, 4.18, 12.0),
        1.8170376524,
        (0.0597131221, -0.0410294666, -0.0101692726),
        (0.005412333594, 0.014058329546, 0.016080817924, 0.006193456360, 0.001421928931, -0.001314075374),
        (
            Shape("cylinder", (0, 0, 0.06), (0, 0, 0.068), 0.045, GREY),
            Shape("capsule", (0.02, 0, 0), (0.088, 0, 0), 0.045),
        ),
    ),
    Link(
        "fr3_link7",
        "fr3_link6",
        (0.088, 0, 0),
        (HALF_PI, 0, 0),
        _arm(7, -3.0159, 3.0159, 5.26, 12.0),
        0.6271432862,
        (0.0045225817, 0.0086261921, -0.0161633251),
        (0.000210923892, 0.000177185680, 0.0000599319060, -0.00002433299, 0.00004564480, 0.00008744070),
        (
            Shape("cylinder", (0, 0, 0.03), (0, 0, 0.085), 0.045),
            Shape("cylinder", (0, 0, 0.085), (0, 0, 0.107), 0.036, GREY),
        ),
    ),
    Link("fr3_link8", "fr3_link7", (0, 0, 0.107)),
    Link(
        "fr3_hand",
        "fr3_link8",
        (0, 0, 0),
        (0, 0, -math.pi / 4),
        None,
        0.6544,
        (-0.0000376, 0.0119128, 0.0207260),
        (0.00186, 0.00030, 0.00174, 0, 0, -0.00002),
        (
            Shape("box", (0, 0, 0.033), (0.026, 0.100, 0.027), rgba=DARK, collides=True),
            Shape("box", (0, 0, 0.008), (0.034, 0.040, 0.010), rgba=DARK),
        ),
    ),
    Link(TCP, "fr3_hand", (0, 0, 0.1034)),
    Link(
        "fr3_leftfinger", "fr3_hand", (0, 0, 0.0584), (0, 0, 0), _finger(1), **_FINGER_INERTIAL, shapes=_FINGER_SHAPES
    ),
    Link(
        "fr3_rightfinger",
        "fr3_hand",
        (0, 0, 0.0584),
        (0, 0, math.pi),
        _finger(2),
        **_FINGER_INERTIAL,
        shapes=_FINGER_SHAPES,
    ),
)


def children(parent: str | None) -> tuple:
    """The links whose parent is named ``parent`` (None: the base)."""
    return tuple(link for link in LINKS if link.parent == parent)


def text(values) -> str:
    """Numbers as XML text, with enough digits to round-trip."""
    return " ".join(f"{v:.10g}" for v in values)


def robot_mjcf(extra: dict | None = None) -> str:
    """The robot as nested MJCF bodies with ``fr3_link0`` at the origin; ``fr3_hand_tcp`` is also a site.

    ``extra`` maps a link's name to more MJCF inside its body, e.g. a camera on the hand. Angles need ``eulerseq="XYZ"``
    and ``angle="radian"`` in the compiler (extrinsic roll, pitch, yaw, as in URDF).
    """
    return "".join(_body(link, extra or {}) for link in children(None))


def _body(link: Link, extra: dict) -> str:
    parts = [f'<body name="{link.name}" pos="{text(link.xyz)}" euler="{text(link.rpy)}">']
    if link.mass:
        parts.append(f'<inertial pos="{text(link.com)}" mass="{link.mass}" fullinertia="{text(link.inertia)}"/>')
    if link.joint:
        j = link.joint
        kind = {"revolute": "hinge", "prismatic": "slide"}[j.kind]
        parts.append(
            f'<joint name="{j.name}" class="{j.kind}" type="{kind}" axis="{text(j.axis)}" range="{j.lower} {j.upper}"/>'
        )
    if link.name == TCP:
        parts.append(f'<site name="{TCP}" size="0.003" group="4"/>')
    parts += [_geom(shape) for shape in link.shapes]
    parts.append(extra.get(link.name, ""))
    parts += [_body(child, extra) for child in children(link.name)]
    return "".join(parts) + "</body>\n"


def _geom(shape: Shape) -> str:
    look = f'class="{"pad" if shape.collides else "visual"}" rgba="{text(shape.rgba)}"'
    if shape.kind == "box":
        return f'<geom type="box" pos="{text(shape.a)}" size="{text(shape.b)}" {look}/>'
    return f'<geom type="{shape.kind}" fromto="{text(shape.a + shape.b)}" size="{shape.r}" {look}/>'


def robot_urdf() -> str:
    """The same robot as URDF text for ``/robot_description``: franka_ros2's names, primitive shapes, no meshes."""
    parts = ['<?xml version="1.0"?>\n<robot name="fr3">\n']
    for link in LINKS:
        parts += [_urdf_link(link), _urdf_joint(link) if link.parent else ""]
    return "".join(parts) + "</robot>\n"


def _urdf_link(link: Link) -> str:
    parts = []
    if link.mass:
        names = ("ixx", "iyy", "izz", "ixy", "ixz", "iyz")
        inertia = " ".join(f'{n}="{v:.10g}"' for n, v in zip(names, link.inertia, strict=True))
        parts.append(
            f'<inertial><origin xyz="{text(link.com)}"/><mass value="{link.mass}"/><inertia {inertia}/></inertial>'
        )
    for shape in link.shapes:
        for origin, geometry in _urdf_geometry(shape):
            name = "_".join(f"{v:g}" for v in shape.rgba[:3])
            material = f'<material name="rgba_{name}"><color rgba="{text(shape.rgba)}"/></material>'
            parts.append(f"<visual>{origin}<geometry>{geometry}</geometry>{material}</visual>")
            parts.append(f"<collision>{origin}<geometry>{geometry}</geometry></collision>")
    return f'<link name="{link.name}">{"".join(parts)}</link>\n'


def _urdf_joint(link: Link) -> str:
    origin = f'<origin xyz="{text(link.xyz)}" rpy="{text(link.rpy)}"/>'
    frame = f'<parent link="{link.parent}"/><child link="{link.name}"/>{origin}'
    j = link.joint
    if j is None:
        name = "fr3_joint8" if link.name == "fr3_link8" else f"{link.name}_joint"
        return f'<joint name="{name}" type="fixed">{frame}</joint>\n'
    limit = f'<limit lower="{j.lower}" upper="{j.upper}" velocity="{j.velocity}" effort="{j.effort}"/>'
    mimic = f'<mimic joint="{FINGER_JOINTS[0]}"/>' if j.name == FINGER_JOINTS[1] else ""
    return f'<joint name="{j.name}" type="{j.kind}">{frame}<axis xyz="{text(j.axis)}"/>{limit}{mimic}</joint>\n'


def _urdf_geometry(shape: Shape) -> list:
    """(origin, geometry) pairs; URDF knows no capsule, so it becomes a cylinder and two spheres."""
    if shape.kind == "box":
        return [(f'<origin xyz="{text(shape.a)}"/>', f'<box size="{text(2 * v for v in shape.b)}"/>')]
    middle = tuple((p + q) / 2 for p, q in zip(shape.a, shape.b, strict=True))
    x, y, z = (q - p for p, q in zip(shape.a, shape.b, strict=True))
    length = math.sqrt(x * x + y * y + z * z)
    rpy = (0.0, math.acos(z / length), math.atan2(y, x))  # turns the cylinder's z axis onto the line from a to b
    pairs = [
        (f'<origin xyz="{text(middle)}" rpy="{text(rpy)}"/>', f'<cylinder radius="{shape.r}" length="{length:.10g}"/>')
    ]
    if shape.kind == "capsule":
        pairs += [(f'<origin xyz="{text(end)}"/>', f'<sphere radius="{shape.r}"/>') for end in (shape.a, shape.b)]
    return pairs
