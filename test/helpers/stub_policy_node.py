"""The real policy node around the stub policy: see `stub_policy` for what its instructions do. Run as a script.

Besides those, "crash": the node itself fails, in a control period.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also where PYTHONSAFEPATH keeps a script's folder out

from stub_policy import FACTORY

from specprune_ros.ros import policy_node


class StubNode(policy_node.PolicyNode):
    POLICY_FACTORY = FACTORY

    def _decide(self, now_ns):
        if self._loop.instruction == "crash":
            raise RuntimeError("what nobody has thought of")
        return super()._decide(now_ns)


if __name__ == "__main__":
    policy_node.PolicyNode = StubNode
    sys.exit(policy_node.main())
