"""The MJCF of the scenes: table, robot, two cameras, and things to handle. Compiled once; an episode changes colours,
poses and light.

The base frame ``fr3_link0`` is the world frame and the table top is its plane z = 0. x points from the robot towards
the third-person camera, y to the robot's left, z up. Lengths in m.
"""

from dataclasses import dataclass

from specprune_ros.sim import panda
from specprune_ros.sim.gl import mujoco

#: Names and RGBA of the colours an instruction can name, far apart in hue also under changed light.
RGBA = {
    "red": (0.86, 0.07, 0.07, 1.0),
    "green": (0.08, 0.58, 0.12, 1.0),
    "blue": (0.06, 0.16, 0.82, 1.0),
    "yellow": (0.95, 0.80, 0.05, 1.0),
    "purple": (0.52, 0.08, 0.62, 1.0),
    "cyan": (0.10, 0.75, 0.85, 1.0),
}
COLOURS = tuple(RGBA)
CUBES = 4
CUBE_HALF_M = 0.02
CAMERAS = ("third_person", "wrist")
TIMESTEP_S = 0.002

# The camera looks back at the robot and down at 50 degrees: the cubes fill the lower half of its image, 18 to 20 pixels
# wide and 27 high at 224 pixels, and the hand stays in view at its start height.
_THIRD_PERSON = '<camera name="third_person" pos="1.291 0 1.109" xyaxes="0 1 0 -0.766 0 0.643" fovy="20.8"/>'
# On the front of the hand, tilted 15 degrees to the finger tips: sees both pads and the table below and ahead of them.
_WRIST = """
<geom class="visual" type="box" pos="0.085 0 -0.018" size="0.0125 0.016 0.0125" rgba="0.72 0.73 0.75 1"/>
<geom class="visual" type="box" pos="0.050 0 -0.018" size="0.025 0.010 0.008" rgba="0.16 0.17 0.19 1"/>
<camera name="wrist" pos="0.085 0 -0.005" xyaxes="0 1 0 0.966 0 0.259" fovy="66"/>
"""


@dataclass(frozen=True)
class Kind:
    """A kind of thing that can be picked up: MuJoCo's geom type and size, and the height of its centre at rest [m]."""

    geom: str
    size: tuple
    rest_m: float


KINDS = {
    "cube": Kind("box", (CUBE_HALF_M,) * 3, CUBE_HALF_M),
    "can": Kind("cylinder", (0.02, 0.025), 0.025),
    "ball": Kind("sphere", (0.021,), 0.021),
}
EACH = 3
"""Bodies of every kind in the scene of the suites."""

PLATE_TOP_M, PLATE_RADIUS_M = 0.008, 0.068
BUTTON_TOP_M, BUTTON_TRAVEL_M, BUTTON_RADIUS_M = 0.032, 0.008, 0.019
EDGE_Y_M = (0.175, 0.260)
"""The strip along the table that things are pushed to."""
UNLIT, LIT = (0.12, 0.12, 0.13, 1.0), (1.0, 0.45, 0.0, 1.0)
"""The button's cap before and after it was pressed."""


def pick_mjcf(image_size: int) -> str:
    """The scene of the pick task, four cubes, with an offscreen buffer of ``image_size`` pixels square."""
    return _scene(image_size, "".join(_body(f"cube{i}", "cube", i) for i in range(CUBES)))


def suites_mjcf(image_size: int) -> str:
    """The scene of the suites: EACH bodies of every kind, a plate, a button, and the strip at the edge."""
    names = [(f"{kind}{i}", kind) for kind in KINDS for i in range(EACH)]
    bodies = "".join(_body(name, kind, i, 'gravcomp="1"') for i, (name, kind) in enumerate(names))
    return _scene(image_size, bodies + _FIXTURES, 'numslices="16" numstacks="10"')


SCENES = {"pick": pick_mjcf, "suites": suites_mjcf}


def compile_scene(image_size: int, name: str = "pick", cloth: bool = False, distractors: bool = False):
    """The compiled ``MjModel`` of a scene in SCENES (a second or less).

    cloth: the table has a texture "cloth" of CLOTH_PIXELS square; distractors: bodies of DISTRACTORS lie out of sight.
    """
    mjcf = SCENES[name](image_size)
    if cloth:
        mjcf = mjcf.replace("</asset>", f"{_CLOTH}</asset>").replace('name="table"', 'name="table" material="cloth"')
    if distractors:
        mjcf = mjcf.replace("</worldbody>", "".join(map(_distractor, range(len(DISTRACTORS)))) + "</worldbody>")
    return mujoco.MjModel.from_xml_string(mjcf)


CLOTH_PIXELS = 128
_CLOTH = f"""<texture name="cloth" type="2d" builtin="flat" width="{CLOTH_PIXELS}" height="{CLOTH_PIXELS}"/>
<material name="cloth" texture="cloth" texuniform="false" texrepeat="1 1" specular="0" shininess="0"/>"""


@dataclass(frozen=True)
class Distractor:
    """A thing that no instruction names: MuJoCo's geom type, half sizes [m] and colour, none of them those of KINDS and
    RGBA."""

    geom: str
    size: tuple
    rgba: tuple

    @property
    def rest_m(self) -> float:
        return self.size[-1]


DISTRACTORS = (
    Distractor("box", (0.032, 0.013, 0.012), (0.42, 0.25, 0.12, 1.0)),
    Distractor("ellipsoid", (0.030, 0.021, 0.017), (0.95, 0.56, 0.70, 1.0)),
    Distractor("cylinder", (0.027, 0.009), (0.47, 0.48, 0.50, 1.0)),
    Distractor("box", (0.015, 0.015, 0.033), (0.38, 0.42, 0.16, 1.0)),
)


def _distractor(number: int) -> str:
    shape = DISTRACTORS[number]
    size = " ".join(map(str, shape.size))
    return (
        f'<body name="distractor{number}" pos="-3 {-0.2 * number - 0.5} {shape.rest_m - 0.74}">'
        f'<geom name="distractor{number}" class="cube" type="{shape.geom}" size="{size}" mass="0.05"'
        f' rgba="0 0 0 0"/><freejoint name="distractor{number}"/></body>'
    )


_FIXTURES = f"""
<geom name="edge" class="visual" type="box" rgba="0.30 0.31 0.33 1"
 pos="0.5 {sum(EDGE_Y_M) / 2} 0.0005" size="0.22 {(EDGE_Y_M[1] - EDGE_Y_M[0]) / 2} 0.0005"/>
<body name="plate" pos="-3 -1 0">
  <geom name="plate" type="cylinder" pos="0 0 {PLATE_TOP_M / 2}" size="{PLATE_RADIUS_M} {PLATE_TOP_M / 2}"
   rgba="0.25 0.27 0.31 1" friction="1.0 0.01 0.001"/>
  <geom name="plate_inside" class="visual" type="cylinder" pos="0 0 {PLATE_TOP_M / 2 + 0.0003}"
   size="{PLATE_RADIUS_M - 0.013} {PLATE_TOP_M / 2}" rgba="0.97 0.97 0.98 1"/>
</body>
<body name="button" pos="-3 -1.5 0">
  <geom name="button_base" type="box" pos="0 0 0.009" size="0.032 0.032 0.009" rgba="0.93 0.93 0.94 1"/>
  <body name="button_cap" pos="0 0 {BUTTON_TOP_M - 0.007}">
    <joint name="button" type="slide" axis="0 0 1" range="-{BUTTON_TRAVEL_M} 0" stiffness="250" damping="4"
     armature="0.01"/>
    <geom name="button" type="cylinder" size="{BUTTON_RADIUS_M} 0.007" mass="0.02" rgba="0 0 0 1"/>
  </body>
</body>
"""


def _body(name: str, kind: str, place: int, more: str = "") -> str:
    """A free body of a kind, out of sight behind the robot until an episode needs it. more: attributes of the body."""
    shape = KINDS[kind]
    size = " ".join(map(str, shape.size))
    geom = f'<geom name="{name}" class="{kind}" type="{shape.geom}" size="{size}" mass="0.06"/>'
    return f'<body name="{name}" pos="-3 {0.2 * place} -0.72" {more}><freejoint name="{name}"/>{geom}</body>'


def _scene(image_size: int, things: str, roundness: str = "") -> str:
    """roundness: attributes of MuJoCo's visual quality; round things of fewer faces are drawn faster."""
    motors = "".join(
        f'<motor name="{link.joint.name}" joint="{link.joint.name}" '
        f'ctrlrange="{-link.joint.effort} {link.joint.effort}"/>'
        for link in panda.LINKS
        if link.joint and link.joint.name in panda.ARM_JOINTS
    )
    fingers = "".join(
        f'<position name="{name}" joint="{name}" kp="1500" forcerange="-30 30" ctrlrange="0 {panda.FINGER_OPEN_M}"/>'
        for name in panda.FINGER_JOINTS
    )
    left, right = panda.FINGER_JOINTS
    return f"""
<mujoco model="specprune_tabletop">
  <compiler angle="radian" eulerseq="XYZ" autolimits="true"/>
  <option timestep="{TIMESTEP_S}" integrator="implicitfast" cone="elliptic" impratio="10"/>
  <visual>
    <global offwidth="{image_size}" offheight="{image_size}"/>
    <quality offsamples="0" shadowsize="0" {roundness}/>
    <headlight ambient="0.45 0.45 0.45" diffuse="0.30 0.30 0.30" specular="0 0 0"/>
    <map znear="0.01" zfar="12"/>
  </visual>
  <statistic extent="1" center="0.5 0 0.1"/>
  <default>
    <default class="visual"><geom contype="0" conaffinity="0" group="2"/></default>
    <default class="pad"><geom friction="1.5 0.02 0.001" condim="4" group="2" solref="0.008 1"/></default>
    <default class="cube"><geom friction="1.0 0.01 0.001" condim="4" solref="0.008 1"/></default>
    <default class="can"><geom friction="1.0 0.01 0.001" condim="4" solref="0.008 1"/></default>
    <default class="ball"><geom friction="1.0 0.01 0.002" condim="6" solref="0.008 1"/></default>
    <default class="revolute"><joint armature="0.1"/></default>
    <default class="prismatic"><joint armature="0.1" damping="20"/></default>
  </default>
  <asset><texture type="skybox" builtin="flat" rgb1="0.72 0.76 0.80" width="8" height="48"/></asset>
  <worldbody>
    <light name="sun" directional="true" castshadow="false" pos="0.8 0.4 2" dir="-0.25 -0.2 -1"
     diffuse="0.35 0.35 0.35" specular="0 0 0"/>
    <geom name="floor" type="plane" pos="0 0 -0.74" size="8 8 1" rgba="0.60 0.63 0.66 1"/>
    <geom name="table" type="box" pos="0.4 0 -0.03" size="0.65 0.70 0.03" rgba="0.80 0.77 0.72 1"
     friction="1.0 0.01 0.001"/>
    {_THIRD_PERSON}
    {panda.robot_mjcf({"fr3_hand": _WRIST})}
    {things}
  </worldbody>
  <contact>
    <exclude body1="fr3_leftfinger" body2="fr3_hand"/><exclude body1="fr3_rightfinger" body2="fr3_hand"/>
  </contact>
  <equality><joint joint1="{right}" joint2="{left}" polycoef="0 1 0 0 0" solref="0.005 1"/></equality>
  <actuator>{motors}{fingers}</actuator>
</mujoco>"""
