"""A managed node around an application: transitions are the application's methods, failures are one line in the log."""

from __future__ import annotations

import traceback
from typing import Protocol

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from specprune_ros.config import ConfigError
from specprune_ros.ros.failure import Failure


class Managed(Protocol):
    """What the transitions do. ConfigError or Failure: the transition fails and the state stays."""

    def configure(self) -> None: ...

    def activate(self) -> None: ...

    def deactivate(self) -> None: ...

    def cleanup(self) -> None: ...


class ManagedNode(LifecycleNode):
    """It has few attributes, and their names are long, so that they do not collide with rclpy's own private ones."""

    def __init__(self, name: str, application: Managed, **options):
        self._managed_application = application
        super().__init__(name, **options)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._do_managed("configure")

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        done = self._do_managed("activate")
        return super().on_activate(state) if done is TransitionCallbackReturn.SUCCESS else done

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        super().on_deactivate(state)
        return self._do_managed("deactivate")

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._do_managed("cleanup")

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._do_managed("deactivate")
        return self._do_managed("cleanup")

    def _do_managed(self, transition: str) -> TransitionCallbackReturn:
        try:
            getattr(self._managed_application, transition)()
        except (ConfigError, Failure) as error:
            self.get_logger().error(f"cannot {transition}: {' '.join(str(error).split())}")
            return TransitionCallbackReturn.FAILURE
        except Exception as error:  # rclpy would swallow it without a word
            text = f"cannot {transition}: {type(error).__name__}: {' '.join(str(error).split())}"
            self.get_logger().error(f"{text}\n{traceback.format_exc()}")
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS
