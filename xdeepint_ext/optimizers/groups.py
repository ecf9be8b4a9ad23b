"""Several optimizers in the place of one: each variable is trained by the optimizer of its group."""

import types
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.utils.registry import register
from xdeepint_ext.utils.variables import DEFAULT_GROUP, optimizer_group

GradientsAndVariables = Iterable[tuple[tf.Tensor | tf.IndexedSlices | None, tf.Variable]]


@register
class OptimizerGroups(tf.keras.optimizers.Optimizer):
    """Gives each variable to the optimizer of its group, and otherwise behaves as one Keras optimizer.

    The group of a variable is the tag it got when it was created (`xdeepint_ext.utils.variables.tag`): "embedding" and
    "interaction" for those of this package's layers, "default" for all without a tag, and any other name. Variables
    whose group has no optimizer go to "default". No variable has two optimizers.

    * **Steps.** `iterations` counts the steps of the whole; the members' own counters are set to it at every step,
      including steps that loss scaling skipped, so schedules and bias corrections see one clock.
    * **Learning rate.** `learning_rate`, which Keras's callbacks read and set, is that of "default", or of the first
      optimizer given where there is no "default". Set the others' through `optimizers[group].learning_rate`.
    * **Replicas.** Gradients are summed over replicas once, here.
    * **Clipping, moving averages, constraints** are each member's own: a `global_clipnorm` bounds the norm over the
      variables of its group.
    * **Mixed precision.** Wrap this optimizer, not its members, in one
      `tf.keras.mixed_precision.LossScaleOptimizer`, as ``compile`` does by itself under ``mixed_float16``.
    * **Saving.** `tf.train.Checkpoint` and ``.keras`` files hold every member's slots under its group's name.

    Args:
      optimizers: Group name -> `tf.keras.optimizers.Optimizer`, or a name or configuration that
        `tf.keras.optimizers.get` takes. Each optimizer serves one group.
      name: The optimizer's name.

    Raises:
      TypeError: If a member is not a Keras optimizer of the present kind (legacy ones are not).
      ValueError: If there is no optimizer, if one is given twice, if a group's name contains "/", if a member scales
        the loss or is itself an `OptimizerGroups`, or, when the variables are known, if one belongs to no group here
        and there is no "default".

    Example:
    >>> from xdeepint_ext.optimizers import GroupFtrl
    >>> from xdeepint_ext.utils.variables import tag
    >>> table, bias = tag(tf.Variable([[0.5], [0.5]]), "embedding"), tf.Variable(1.0)
    >>> optimizer = OptimizerGroups({"embedding": GroupFtrl(), "default": tf.keras.optimizers.SGD(0.1)})
    >>> _ = optimizer.apply_gradients([(tf.IndexedSlices(tf.constant([[1.0]]), tf.constant([0])), table), (1.0, bias)])
    >>> float(bias), float(table[1, 0])
    (0.8999999761581421, 0.0)
    """

    def __init__(
        self, optimizers: Mapping[str, tf.keras.optimizers.Optimizer | str | dict], name: str = "OptimizerGroups"
    ):
        super().__init__(name=name, weight_decay=None, jit_compile=False)
        members = {group: _member(group, optimizer) for group, optimizer in optimizers.items()}
        if not members:
            raise ValueError("optimizers must name at least one group and its optimizer, got an empty mapping")
        if len({id(member) for member in members.values()}) < len(members):
            raise ValueError(f"each group needs an optimizer of its own, got one object twice among {list(members)}")
        # Not a dict: Keras's file format would walk into it and write every slot a second time.
        self._members = types.MappingProxyType(members)
        for group, member in members.items():
            self._track_trackable(member, name=group)
        self._group_of_key = self._no_dependency({})

    @property
    def optimizers(self) -> Mapping[str, tf.keras.optimizers.Optimizer]:
        """Group name -> optimizer, read-only."""
        return self._members

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Divides the variables among the optimizers and creates their slots.

        Args:
          var_list: All variables that will be trained.

        Raises:
          ValueError: If a variable's group has no optimizer and there is no "default".
        """
        super().build(var_list)
        if getattr(self, "_built", False):
            return
        shares: dict[str, list[tf.Variable]] = {group: [] for group in self._members}
        for variable in var_list:
            group = self._group_that_serves(variable)
            shares[group].append(variable)
            self._group_of_key[self._var_key(variable)] = group
        idle = [group for group, share in shares.items() if not share and group != DEFAULT_GROUP]
        if idle:
            present = sorted({optimizer_group(variable) for variable in var_list})
            warnings.warn(
                f"no variable belongs to the optimizer groups {idle}; the variables' are {present}", stacklevel=2
            )
        for group, share in shares.items():
            if share:
                self._members[group].build(share)
        self._built = True

    def apply_gradients(
        self,
        grads_and_vars: GradientsAndVariables,
        name: str | None = None,
        skip_gradients_aggregation: bool = False,
        **kwargs: Any,
    ) -> tf.Variable:
        """Makes one step.

        Args:
          grads_and_vars: Pairs (gradient, variable). Variables without a gradient (None) are left out, with a warning.
          name: Name scope of the operations; this optimizer's name by default.
          skip_gradients_aggregation: Whether the gradients are summed over replicas already.
          **kwargs: `experimental_aggregate_gradients`, the old name of its opposite.

        Returns:
          `iterations`.

        Raises:
          RuntimeError: If called outside a replica context, such as directly in a strategy's scope.
          ValueError: If no variable has a gradient.
          KeyError: If a variable was not among those the optimizer was built for.
        """
        grads_and_vars = list(grads_and_vars)
        if not grads_and_vars:
            return self.iterations
        if tf.distribute.in_cross_replica_context():
            raise RuntimeError("apply_gradients must be called in a replica context; use strategy.run")
        aggregate = kwargs.pop("experimental_aggregate_gradients", True) and not skip_gradients_aggregation
        if kwargs:
            raise TypeError(f"apply_gradients got unexpected arguments {sorted(kwargs)}")
        with tf.name_scope(name or self.name):
            with tf.init_scope():
                self.build([variable for _, variable in grads_and_vars])
            present = _with_gradient(grads_and_vars)
            shares = self._divide(self.aggregate_gradients(present) if aggregate else present)
            tf.__internal__.distribute.interim.maybe_merge_call(self._start_step, self._distribution_strategy)
            for group, share in shares.items():
                self._members[group].apply_gradients(share, skip_gradients_aggregation=True)
        return self.iterations

    @property
    def learning_rate(self) -> tf.Variable:
        """The learning rate of "default", or of the first optimizer where there is no "default"."""
        return self._leader().learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: float) -> None:
        self._leader().learning_rate = learning_rate

    @property
    def variables(self) -> list[tf.Variable]:
        """The step counter, then each member's slots; the members' own counters only repeat the first."""
        variables = super().variables
        for member in self._members.values():
            variables.extend(_slots(member))
        return variables

    def finalize_variable_values(self, var_list: Sequence[tf.Variable]) -> None:
        """Lets each member put its moving averages, if it keeps any, in the place of its variables."""
        for group, share in self._divide_variables(var_list).items():
            self._members[group].finalize_variable_values(share)

    def exclude_from_weight_decay(
        self, var_list: Sequence[tf.Variable] | None = None, var_names: Sequence[str] | None = None
    ) -> None:
        """Tells every member which variables its weight decay spares; before `build`."""
        for member in self._members.values():
            member.exclude_from_weight_decay(var_list, var_names)

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Sets all `variables`, in their order."""
        variables = self.variables
        if len(weights) != len(variables):
            raise ValueError(f"weights must hold {len(variables)} arrays, one for each variable, got {len(weights)}")
        for variable, weight in zip(variables, weights, strict=True):
            variable.assign(weight)

    def save_own_variables(self, store: Any) -> None:
        """Writes the state into a ``.keras`` file."""
        for key, variable in self._state().items():
            store[key] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Reads the state from a ``.keras`` file.

        Raises:
          ValueError: If the file's variables are not those of this optimizer.
        """
        state = self._state()
        if set(store.keys()) != set(state):
            raise ValueError(
                f"the saved state of {self.name} does not fit: missing {sorted(set(state) - set(store.keys()))}, "
                f"unexpected {sorted(set(store.keys()) - set(state))}"
            )
        for key, variable in state.items():
            variable.assign(store[key])

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, with the members' configurations."""
        return {
            "name": self.name,
            "optimizers": {group: tf.keras.optimizers.serialize(member) for group, member in self._members.items()},
            "is_legacy_optimizer": False,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "OptimizerGroups":
        """Makes the optimizer that `get_config` described."""
        members = {
            group: tf.keras.optimizers.deserialize(member, custom_objects)
            for group, member in config["optimizers"].items()
        }
        return cls(members, name=config["name"])

    def _leader(self) -> tf.keras.optimizers.Optimizer:  # no property: Keras would save it as a part of its own
        return self._members.get(DEFAULT_GROUP, next(iter(self._members.values())))

    def _group_that_serves(self, variable: tf.Variable) -> str:
        group = optimizer_group(variable)
        if group in self._members:
            return group
        if DEFAULT_GROUP in self._members:
            return DEFAULT_GROUP
        raise ValueError(
            f"variable {variable.name} belongs to group {group!r}, for which there is no optimizer, and no "
            f"{DEFAULT_GROUP!r} one either; the groups given are {list(self._members)}"
        )

    def _start_step(self, _strategy: tf.distribute.Strategy) -> None:
        """Sets the members' clocks and advances this one; the members advance theirs by themselves."""
        for member in self._members.values():
            member.iterations.assign(self.iterations)
        self.iterations.assign_add(1)

    def _divide(self, pairs: GradientsAndVariables) -> dict[str, list]:
        """Groups (gradient, variable) pairs by the group that serves the variable."""
        shares: dict[str, list] = {}
        for gradient, variable in pairs:
            shares.setdefault(self._group_at_build(variable), []).append((gradient, variable))
        return shares

    def _divide_variables(self, var_list: Sequence[tf.Variable]) -> dict[str, list[tf.Variable]]:
        return {g: [v for _, v in share] for g, share in self._divide((None, v) for v in var_list).items()}

    def _group_at_build(self, variable: tf.Variable) -> str:
        key = self._var_key(variable)
        if key not in self._group_of_key:
            raise KeyError(
                f"{self.name} does not know variable {variable.name}: call build with all trainable variables before "
                "the first step"
            )
        return self._group_of_key[key]

    def _state(self) -> dict[str, tf.Variable]:
        """Every variable by a name that holds its group: a file may list the groups in another order."""
        state = {"iterations": self.iterations}
        for group, member in self._members.items():
            state.update({f"{group}.{i}": variable for i, variable in enumerate(_slots(member))})
        return state


def _member(group: str, optimizer: tf.keras.optimizers.Optimizer | str | dict) -> tf.keras.optimizers.Optimizer:
    """Checks one entry of the mapping and makes it an optimizer."""
    if not isinstance(group, str) or not group:
        raise TypeError(f"the keys of optimizers must be group names, got {group!r} of type {type(group).__name__}")
    if "/" in group:
        raise ValueError(f"the keys of optimizers must not contain '/', which divides names in files; got {group!r}")
    optimizer = tf.keras.optimizers.get(optimizer)
    if not isinstance(optimizer, tf.keras.optimizers.Optimizer):
        raise TypeError(
            f"optimizers[{group!r}] must be a tf.keras.optimizers.Optimizer, got {type(optimizer).__module__}."
            f"{type(optimizer).__name__}"
        )
    if isinstance(optimizer, (tf.keras.mixed_precision.LossScaleOptimizer, OptimizerGroups)):
        raise ValueError(
            f"optimizers[{group!r}] must be a plain optimizer, got a {type(optimizer).__name__}. For loss scaling wrap "
            "the OptimizerGroups itself"
        )
    return optimizer


def _slots(member: tf.keras.optimizers.Optimizer) -> list[tf.Variable]:
    return [variable for variable in member.variables if variable is not member.iterations]


def _with_gradient(grads_and_vars: GradientsAndVariables) -> list[tuple[tf.Tensor | tf.IndexedSlices, tf.Variable]]:
    """Leaves out the variables without a gradient, as Keras does: with a warning, or an error if these are all."""
    present = [(gradient, variable) for gradient, variable in grads_and_vars if gradient is not None]
    missing = [variable.name for gradient, variable in grads_and_vars if gradient is None]
    if not present:
        raise ValueError(f"no gradient was given for any of the variables {missing}")
    if missing:
        tf.get_logger().warning("No gradients for the variables %s: they are left as they are.", missing)
    return present
