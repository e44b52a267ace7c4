# What C does in place of the functions of `fetch.py`; what brings memory to the processor's caches takes no references
# and calls no Python.
from cpython.array cimport array
from cpython.object cimport PyObject
from matching_engine.search cimport cx_value

cdef extern from *:
    """
    #if defined(__GNUC__)
    #define cx_fetch(place) __builtin_prefetch((const void *)(place))
    #else
    #define cx_fetch(place) ((void)(place))
    #endif

    static CYTHON_INLINE PyObject *cx_found(PyObject *dict, PyObject *key) {
        return PyLong_CheckExact(key) || PyUnicode_CheckExact(key) ? PyDict_GetItemWithError(dict, key) : NULL;
    }
    static CYTHON_INLINE void cx_fetch_order(PyObject *order) {
        char *place = (char *)order;
        cx_fetch(place);
        cx_fetch(place + 64);
        cx_fetch(place + 128);
        cx_fetch(place + 184);
    }
    static CYTHON_INLINE PyObject **cx_items(PyObject *list) { return ((PyListObject *)list)->ob_item; }
    #define cx_size(list) PyList_GET_SIZE((PyObject *)(list))
    #define cx_type(of) ((PyObject *)Py_TYPE(of))

    #define cx_is_int(number) PyLong_CheckExact(number)
    """
    void cx_fetch(void *place) noexcept
    PyObject *cx_found(PyObject *dict, PyObject *key) noexcept
    void cx_fetch_order(PyObject *order) noexcept
    PyObject **cx_items(PyObject *list) noexcept
    Py_ssize_t cx_size(PyObject *list) noexcept
    PyObject *cx_type(PyObject *of) noexcept
    bint cx_is_int(PyObject *number) noexcept
    Py_ssize_t cx_bisect_value(PyObject *numbers, long long number, Py_ssize_t low, int right) noexcept

cdef enum:
    AT_ONCE = 64
    FRONT = 16


cdef inline object foresee_orders(list those):
    cdef PyObject *orders = <PyObject *>those
    cdef Py_ssize_t at
    for at in range(cx_size(orders)):
        cx_fetch_order(cx_items(orders)[at])
    return None


cdef inline object numbers(object given=()):
    return array("q", given)
