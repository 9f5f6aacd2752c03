"""The real policy node around the scripted policy of policy.py: `python -m specprune_ros.bench.faults.node`.

Besides what that policy does, "crash": the node itself fails, in a control period.
"""

from __future__ import annotations

import sys

from specprune_ros.bench.faults.policy import FACTORY
from specprune_ros.ros import policy_node


class ScriptedNode(policy_node.PolicyNode):
    POLICY_FACTORY = FACTORY

    def _decide(self, now_ns: int):
        if self._loop.instruction == "crash":
            raise RuntimeError("what nobody has thought of")
        return super()._decide(now_ns)


def main(args=None) -> int:
    policy_node.PolicyNode = ScriptedNode
    return policy_node.main(args)


if __name__ == "__main__":
    sys.exit(main())
