"""The live node: topics in, a growing metric map out. A lifecycle node without mathematics.

configure loads the model, activate opens the subscriptions, deactivate closes them (the map stays),
cleanup drops map and model. By default the node configures and activates itself.
"""

from __future__ import annotations

import sys
import threading
import traceback
from typing import Any

import rclpy
from lifecycle_msgs.msg import Transition
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

from spatial_fm_ros.bridge import qos
from spatial_fm_ros.bridge.clock import STEADY, hear_clock_apart, on_clock_jump_back
from spatial_fm_ros.bridge.encode_status import empty_status
from spatial_fm_ros.bridge.frames import TransformTree
from spatial_fm_ros.bridge.health import Diagnostics, InputHealth
from spatial_fm_ros.bridge.overrides import warn_unused
from spatial_fm_ros.bridge.parameters import Parameters
from spatial_fm_ros.bridge.services import Services
from spatial_fm_ros.core import stopping
from spatial_fm_ros.core.config import Config
from spatial_fm_ros.core.errors import ConfigError, SpatialFMError
from spatial_fm_ros.core.memory import bound_arenas
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.msg import ReconstructionStatus
from spatial_fm_ros.nodes.ending import Ending
from spatial_fm_ros.nodes.report import HealthReport
from spatial_fm_ros.nodes.session import Session
from spatial_fm_ros.nodes.starting import init_ros, tell_foreign_files
from spatial_fm_ros.nodes.worker import PATIENCE_S

RCLError = rclpy_implementation.RCLError
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE

#: At the end, the model has so long to give up being loaded, and after that the window in work to be done, seconds.
END_PATIENCE_S = 1.5
#: A request to shut down or clean up waits so long for the model to give up being loaded, seconds.
GIVE_UP_S = 4.0
#: Callbacks at once: inputs and timers beside a configuration, a service and requests that come meanwhile.
THREADS = 6

#: Requests, by number and name, that mean: the model is not wanted any more.
_SHUTDOWN = (
    Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
    Transition.TRANSITION_INACTIVE_SHUTDOWN,
    Transition.TRANSITION_ACTIVE_SHUTDOWN,
    "shutdown",
)
_CLEANUP = (Transition.TRANSITION_CLEANUP, "cleanup")


class Reconstruct(LifecycleNode):
    """See docs/ros.md for topics, services, parameters and states."""

    def __init__(self, name: str = "reconstruct", **options: Any) -> None:
        """Raises ConfigError for parameters given at start that cannot be used."""
        super().__init__(name, **options)
        self._in_transition = threading.Lock()
        self._unwanted = threading.Event()  # a model that is being loaded is not wanted any more
        self._closed = False
        self._answer_every_request()
        self.session: Session | None = None
        self.problem = "Not configured yet."
        self.health = InputHealth()
        self._settings = Parameters(self, self._is_fixed, self._on_parameters)
        self.config = self._settings.config()
        self._tree = TransformTree(self, self._on_tf, self._on_bad)
        latched = qos.overridden(self, qos.PUBLISHER, "~/status", qos.latched_output())
        self._status = self.create_publisher(ReconstructionStatus, "~/status", latched)
        self._diagnostics = Diagnostics(self, HealthReport(self).tasks())
        self._service_face = Services(self, lambda: self.session)
        self._jump = on_clock_jump_back(self, self._on_clock_jump_back)
        self._clock_helper = hear_clock_apart(self, self._on_bad)
        group = MutuallyExclusiveCallbackGroup()
        self._report_timer = self.create_timer(1.0, self._report, callback_group=group, clock=STEADY)
        alone = MutuallyExclusiveCallbackGroup()
        self._start_timer = self.create_timer(0.0, self._start, callback_group=alone, clock=STEADY)
        warn_unused(self)

    def set_parameters_atomically(self, parameter_list: list[Parameter]) -> SetParametersResult:
        """Also what the parameter services call; an unknown name is answered with the nearest."""
        settings = getattr(self, "_settings", None)
        refusal = settings.refusal(parameter_list) if settings is not None else None
        return refusal or super().set_parameters_atomically(parameter_list)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model. FAILURE leaves the node unconfigured, with the reason in status and diagnostics."""
        try:
            self.config = self._settings.config()
            name = self.config.model.name
            self.problem = f"Model '{name}' is being loaded."
            self.get_logger().info(f"Loading model '{name}' …")
            if not self._closed:
                self._unwanted.clear()
            with stopping.until(self._unwanted):
                pipeline = Pipeline(self.config)
                pipeline.load()
                stopping.check()
        except SpatialFMError as error:
            return self._refuse(str(error))
        except Exception as error:  # a defect of a model or a missing library is a reason, not an end
            return self._refuse(f"Model '{self.config.model.name}' cannot be loaded: {error!r}.")
        self.session = Session(self, self.config, pipeline, self._tree, self.health, on_status=self._publish_status)
        self.problem = "Not active: nothing is subscribed to."
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open the subscriptions. FAILURE (an impossible topic name) leaves the node inactive."""
        assert self.session is not None
        try:
            self.session.start()
        except Exception as error:  # whatever the middleware says of a topic
            self.session.stop()
            self.problem = f"The inputs cannot be subscribed to: {error}"
            self.get_logger().error(self.problem)
            return FAILURE
        warn_unused(self, qos=True)
        result = super().on_activate(state)
        self.problem = ""
        topics = ", ".join(f"{each.role}: {each.topic}" for each in self.session.intake.inputs)
        self.get_logger().info(f"Listening ({topics}).")
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close the subscriptions; the map stays and can be saved."""
        assert self.session is not None
        self.session.stop()
        self.problem = "Not active: nothing is subscribed to."
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Drop map and model."""
        self._release("Not configured.")
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release("Shut down.")
        return SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """A transition raised: back to unconfigured, ready to be configured again."""
        self._release("A transition failed; see the log, then configure again.")
        self.get_logger().error(self.problem)
        return SUCCESS

    def close(self) -> bool:
        """Stop all threads before the node is destroyed. False: a transition did not end within END_PATIENCE_S."""
        self._closed = True
        self._unwanted.set()
        ended = self._in_transition.acquire(timeout=END_PATIENCE_S)
        try:
            self._release("Closed.", END_PATIENCE_S)
            if self._clock_helper is not None:
                self._clock_helper.close()
            self._tree.close()
        finally:
            if ended:
                self._in_transition.release()
        return ended

    def _answer_every_request(self) -> None:
        """rclpy answers nothing while a transition goes on, and lets one that the state does not have end the node.

        Here transitions are in a group of their own, and what cannot be is answered with 'no'.
        """
        service = self._service_change_state
        answer = service.callback
        service.callback_group = ReentrantCallbackGroup()
        service.callback_group.add_entity(service)

        def guarded(request: Any, response: Any) -> Any:
            asked = request.transition.label or request.transition.id
            if self._in_transition.acquire(blocking=False):
                try:
                    return answer(request, response)
                except RCLError as error:
                    self.get_logger().warning(f"Transition refused: {error}")
                    response.success = False
                    return response
                finally:
                    self._in_transition.release()
            response.success = asked in (*_SHUTDOWN, *_CLEANUP) and self._give_up(asked in _SHUTDOWN)
            if not response.success:
                self.get_logger().warning("Transition refused: another one is going on.")
            return response

        service.callback = guarded

    def _give_up(self, shut_down: bool) -> bool:
        """Stop loading the model, then shut down where that is wanted. Whether it came to that."""
        if self._unwanted.is_set():  # another request waits for it already
            return False
        self._unwanted.set()
        if not self._in_transition.acquire(timeout=GIVE_UP_S):
            return False
        try:
            if self.session is not None:  # it was no loading that went on
                return False
            return not shut_down or self.trigger_shutdown() == SUCCESS
        except RCLError:
            return False
        finally:
            self._in_transition.release()

    def _start(self) -> None:
        self._start_timer.cancel()
        if not self.config.ros.autostart or not self._in_transition.acquire(blocking=False):
            return
        try:
            if self.session is None and not self._closed and self.trigger_configure() == SUCCESS:
                self.trigger_activate()
        finally:
            self._in_transition.release()

    def _is_fixed(self) -> bool:
        return self.session is not None or self._in_transition.locked()

    def _refuse(self, reason: str) -> TransitionCallbackReturn:
        self.problem = reason
        self.get_logger().error(f"Not configured: {reason}")
        return FAILURE

    def _release(self, problem: str, patience_s: float = PATIENCE_S) -> None:
        session, self.session, self.problem = self.session, None, problem
        if session is not None:
            session.close(patience_s)

    def _on_parameters(self, config: Config) -> None:
        self.config = config
        if self.session is not None:
            self.session.config = config

    def _on_tf(self) -> None:
        session = self.session
        if session is not None:
            session.on_tf()

    @property
    def is_loading(self) -> bool:
        """The model is on its way: no fault, however long it takes."""
        return self.state_label == "configuring"

    @property
    def state_label(self) -> str:
        """The lifecycle's state, or the transition that goes on."""
        return str(self._state_machine.current_state[1])

    @property
    def tf_remarks(self) -> list[tuple[str, str]]:
        """What is odd about /tf, as (input, sentence)."""
        return self._tree.unstamped.remarks

    def _on_bad(self, role: str, error: Exception) -> None:
        self.health.tell_bad(self, role, error)

    def _on_clock_jump_back(self) -> None:
        self._tree.clear()
        if self.session is not None:
            self.session.set_aside("the clock jumped back")

    def _publish_status(self) -> None:
        session = self.session
        if session is not None:
            status = session.status()
        else:
            status = empty_status(self.problem, self.config.ros.map_frame, self.config.model.name)
        status.node_state = self.state_label
        self._status.publish(status)

    def _report(self) -> None:
        self._diagnostics.publish()
        self._publish_status()


def main(argv: list[str] | None = None) -> int:
    """Run the node until Ctrl-C. Returns the exit code."""
    # rclpy's own handler ends the middleware at once, while the worker still publishes.
    ending = Ending()
    bound_arenas()
    try:
        init_ros(argv, signal_handler_options=SignalHandlerOptions.NO)
        node = Reconstruct()
        tell_foreign_files(node, argv)
    except ConfigError as error:
        print(f"reconstruct: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return 2
    executor = MultiThreadedExecutor(num_threads=THREADS)
    executor.add_node(node)
    spinner = threading.Thread(target=_spin, args=(executor, node, ending.told), name="executor", daemon=True)
    spinner.start()
    ending.told.wait()
    ending.begin()
    if node.close():  # else a model is being loaded by code that cannot be interrupted, in the node's name
        executor.shutdown()
        spinner.join()
        node.destroy_node()
        rclpy.try_shutdown()
    ending.leave(0)


def _spin(executor: MultiThreadedExecutor, node: Reconstruct, stop: threading.Event) -> None:
    """Until `stop`. A callback that raises is a defect: it is logged, and the node goes on mapping."""
    while not stop.is_set():
        try:
            executor.spin()
        except ExternalShutdownException:
            stop.set()
        except Exception:
            node.get_logger().error(f"Internal error in a callback:\n{traceback.format_exc()}")


if __name__ == "__main__":
    sys.exit(main())
