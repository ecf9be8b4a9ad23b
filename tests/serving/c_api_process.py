"""The process behind `c_api.run_signatures`: a SavedModel in a TF_Session, with ctypes and NumPy alone.

Call: python -I -S c_api_process.py JOB ANSWER FOLDER_OF_NUMPY. JOB is a pickled {"libraries", "calls"}; each call has
"directory", "feeds" (tensor name -> (TF_DataType, array)) and "fetches" (output -> tensor name). ANSWER: a pickled
list of output -> array; for a call with "seconds", which is run again and again for so long, the seconds of each run.
The functions and layouts are those of tensorflow/c/{c_api,tf_tensor,tf_tstring,tf_buffer}.h.
"""

import ctypes
import itertools
import pickle
import sys
import time

STRING = 7  # TF_STRING
SIZE_OF_STRING = 24  # sizeof(TF_TString)
UNTIMED, LEAST = 5, 20  # runs before the clock counts, and with it


class Output(ctypes.Structure):
    _fields_ = (("oper", ctypes.c_void_p), ("index", ctypes.c_int))


def declare(library):
    """Argument and result types: ctypes would take every pointer for a 32-bit integer."""
    pointer, size, text, integer = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
        ("TF_NewStatus", pointer, []),
        ("TF_GetCode", integer, [pointer]),
        ("TF_Message", text, [pointer]),
        ("TF_NewGraph", pointer, []),
        ("TF_NewSessionOptions", pointer, []),
        (
            "TF_LoadSessionFromSavedModel",
            pointer,
            [pointer, pointer, text, pointer, integer, pointer, pointer, pointer],
        ),
        ("TF_GraphOperationByName", pointer, [pointer, text]),
        ("TF_AllocateTensor", pointer, [integer, pointer, integer, size]),
        ("TF_TensorData", pointer, [pointer]),
        ("TF_TensorType", integer, [pointer]),
        ("TF_TensorByteSize", size, [pointer]),
        ("TF_NumDims", integer, [pointer]),
        ("TF_Dim", ctypes.c_int64, [pointer, integer]),
        ("TF_DeleteTensor", None, [pointer]),
        ("TF_StringInit", None, [pointer]),
        ("TF_StringCopy", None, [pointer, text, size]),
        ("TF_StringGetDataPointer", pointer, [pointer]),
        ("TF_StringGetSize", size, [pointer]),
        ("TF_StringDealloc", None, [pointer]),
        (
            "TF_SessionRun",
            None,
            [pointer] * 4 + [integer] + [pointer] * 2 + [integer, pointer, integer] + [pointer] * 2,
        ),
        ("TF_CloseSession", None, [pointer, pointer]),
        ("TF_DeleteSession", None, [pointer, pointer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class Session:
    def __init__(self, library, directory):
        self.c = library
        self.status = library.TF_NewStatus()
        self.graph = library.TF_NewGraph()
        tags = (ctypes.c_char_p * 1)(b"serve")
        options = library.TF_NewSessionOptions()
        arguments = (options, None, directory.encode(), tags, 1, self.graph, None, self.status)
        self.session = library.TF_LoadSessionFromSavedModel(*arguments)
        self.check()

    def check(self):
        if self.c.TF_GetCode(self.status):
            sys.exit(self.c.TF_Message(self.status).decode(errors="replace"))

    def output(self, tensor_name):
        operation, _, index = tensor_name.partition(":")
        found = self.c.TF_GraphOperationByName(self.graph, operation.encode())
        if not found:
            sys.exit(f"no operation {operation!r} in the graph")
        return Output(found, int(index or 0))

    def run(self, feeds, fetches):
        run, results = self.prepared(feeds, fetches)
        run()
        return dict(zip(fetches, map(self.array, results), strict=True))

    def time(self, feeds, fetches, seconds):
        run, results = self.prepared(feeds, fetches)
        times = []
        until = time.perf_counter() + seconds
        for number in itertools.count():
            start = time.perf_counter()
            run()
            end = time.perf_counter()
            for result in results:
                self.c.TF_DeleteTensor(result)
            if number >= UNTIMED:
                times.append(end - start)
                if end > until and len(times) >= LEAST:
                    return np.array(times)

    def prepared(self, feeds, fetches):
        given = [self.tensor(dtype, array) for dtype, array in feeds.values()]
        count = len(fetches)
        results = (ctypes.c_void_p * count)()
        arguments = (
            self.session,
            None,
            (Output * len(feeds))(*map(self.output, feeds)),
            (ctypes.c_void_p * len(feeds))(*given),
            len(feeds),
            (Output * count)(*map(self.output, fetches.values())),
            results,
            count,
            None,
            0,
            None,
            self.status,
        )

        def run():
            self.c.TF_SessionRun(*arguments)
            self.check()

        return run, results

    def tensor(self, dtype, array):
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        if dtype != STRING:
            data = np.ascontiguousarray(array).tobytes()
            tensor = self.c.TF_AllocateTensor(dtype, shape, array.ndim, len(data))
            ctypes.memmove(self.c.TF_TensorData(tensor), data, len(data))
            return tensor
        tensor = self.c.TF_AllocateTensor(dtype, shape, array.ndim, SIZE_OF_STRING * array.size)
        start = self.c.TF_TensorData(tensor)
        for place, value in enumerate(array.ravel()):
            self.c.TF_StringInit(start + SIZE_OF_STRING * place)
            self.c.TF_StringCopy(start + SIZE_OF_STRING * place, value, len(value))
        return tensor

    def array(self, tensor):
        shape = [self.c.TF_Dim(tensor, axis) for axis in range(self.c.TF_NumDims(tensor))]
        dtype, start = self.c.TF_TensorType(tensor), self.c.TF_TensorData(tensor)
        if dtype != STRING:
            data = ctypes.string_at(start, self.c.TF_TensorByteSize(tensor)) if start else b""
            return np.frombuffer(data, DTYPES[dtype]).reshape(shape)
        values = np.empty(int(np.prod(shape)), object)
        for place in range(values.size):
            value = start + SIZE_OF_STRING * place
            values[place] = ctypes.string_at(self.c.TF_StringGetDataPointer(value), self.c.TF_StringGetSize(value))
        return values.reshape(shape)


def main(job, answer, numpy_folder):
    global np, DTYPES
    sys.path.insert(0, numpy_folder)
    import numpy as np

    sys.path.remove(numpy_folder)
    # By TF_DataType.
    DTYPES = {1: np.float32, 2: np.float64, 3: np.int32, 9: np.int64, 10: np.bool_, 19: np.float16}
    with open(job, "rb") as stream:
        work = pickle.load(stream)
    for library in work["libraries"]:
        loaded = ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    sessions = {}
    answers = []
    for call in work["calls"]:
        if call["directory"] not in sessions:
            sessions[call["directory"]] = Session(declare(loaded), call["directory"])
        session = sessions[call["directory"]]
        if "seconds" in call:
            answers.append(session.time(call["feeds"], call["fetches"], call["seconds"]))
        else:
            answers.append(session.run(call["feeds"], call["fetches"]))
    foreign = sorted(
        {name.partition(".")[0] for name in sys.modules} & {"tensorflow", "keras", "tf_keras", "xdeepint_ext"}
    )
    if foreign:
        sys.exit(f"this process was to be without {foreign}")
    with open(answer, "wb") as stream:
        pickle.dump(answers, stream)


if __name__ == "__main__":
    main(*sys.argv[1:])
