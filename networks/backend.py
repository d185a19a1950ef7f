"""Keras, imported without the greetings that its backends' C++ libraries print while they load.

KERAS_BACKEND chooses tensorflow or jax; without it the first one that is installed is used. The user's keras.json is
for other programs and is not read.
"""
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from utilities import quiet_stderr

BACKENDS = ("tensorflow", "jax")
Shape = tuple[Any, ...]  # shape of a tensor: whole numbers, None where any number is allowed
Tensor = Any  # Keras has no type for arrays of its backends; its functions accept NumPy arrays too


def chosen_backend(wanted: str | None) -> str:
    """The backend to use. wanted: KERAS_BACKEND or None. Raises ValueError if it is unknown or not installed."""
    installed = [name for name in BACKENDS if find_spec(name)]
    if not wanted and installed:
        return installed[0]
    if wanted not in installed:
        raise ValueError(f"KERAS_BACKEND={wanted or ''} cannot be used: expected {' or '.join(BACKENDS)}, installed.")
    return wanted


try:
    os.environ["KERAS_BACKEND"] = chosen_backend(os.environ.get("KERAS_BACKEND"))
except ValueError as error:  # no command runs yet that could print it
    print(f"{os.path.basename(sys.argv[0])}: error: {error}", file=sys.stderr)
    sys.exit(2)
os.environ["KERAS_HOME"] = os.devnull
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with quiet_stderr():
    import keras
    from keras import layers, ops

__all__ = ["Shape", "Tensor", "compiled", "keras", "layers", "ops"]


def compiled(model: Any, function: Callable, any_size: bool = False) -> Callable:
    """Compile function(*arrays), which calls model, to a graph of the backend. Variables are read again at every call.

    any_size: one graph serves pictures [B, h, w, C] of any B, h and w. Graphs of other sizes round differently in
    bfloat16, so results would depend on earlier calls.
    """
    if keras.backend.backend() == "jax":
        import jax

        def stateless(values: list, *arrays: Tensor) -> Tensor:
            with keras.StatelessScope(state_mapping=zip(model.variables, values, strict=True)):
                return function(*arrays)

        graph = jax.jit(stateless)
        return lambda *arrays: graph([variable.value for variable in model.variables], *arrays)

    import tensorflow as tf

    if not any_size:
        return tf.function(function, reduce_retracing=True)
    graph = None

    def call(*arrays: Tensor) -> Tensor:
        nonlocal graph
        arrays = [tf.convert_to_tensor(array) for array in arrays]
        if graph is None:
            graph = tf.function(function, input_signature=[
                tf.TensorSpec([None, None, None, array.shape[3]] if array.ndim == 4 else array.shape, array.dtype)
                for array in arrays])
        return graph(*arrays)

    return call
