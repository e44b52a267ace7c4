# Searches in sorted lists and tuples of ints, as `bisect` does them.

cdef extern from *:
    """
    static CYTHON_INLINE int cx_less(PyObject *a, PyObject *b) {
    #if PY_VERSION_HEX < 0x030C0000
        Py_ssize_t size = Py_SIZE(a), other = Py_SIZE(b), digits = size < 0 ? -size : size;
        if (size != other)
            return size < other;
        while (digits--) {
            digit one = ((PyLongObject *)a)->ob_digit[digits], two = ((PyLongObject *)b)->ob_digit[digits];
            if (one != two)
                return size < 0 ? one > two : one < two;
        }
        return 0;
    #else
        return PyObject_RichCompareBool(a, b, Py_LT) == 1;
    #endif
    }

    static CYTHON_INLINE Py_ssize_t cx_bisect(PyObject *numbers, PyObject *number, Py_ssize_t low, int right) {
        PyObject **items = PySequence_Fast_ITEMS(numbers);
        Py_ssize_t high = PySequence_Fast_GET_SIZE(numbers);
        while (low < high) {
            Py_ssize_t middle = (low + high) / 2;
            if (right ? !cx_less(number, items[middle]) : cx_less(items[middle], number))
                low = middle + 1;
            else
                high = middle;
        }
        return low;
    }

    static CYTHON_INLINE long long cx_value(PyObject *number) {
    #if PY_VERSION_HEX < 0x030C0000
        Py_ssize_t size = Py_SIZE(number);
        digit *digits = ((PyLongObject *)number)->ob_digit;
        if (size == 2)
            return (long long)digits[1] << PyLong_SHIFT | digits[0];
        if (size == 1)
            return digits[0];
        if (size == 0)
            return 0;
    #endif
        return PyLong_AsLongLong(number);
    }

    static CYTHON_INLINE Py_ssize_t cx_bisect_value(PyObject *numbers, long long number, Py_ssize_t low, int right) {
        PyObject **items = PySequence_Fast_ITEMS(numbers);
        Py_ssize_t high = PySequence_Fast_GET_SIZE(numbers);
        while (low < high) {
            Py_ssize_t middle = (low + high) / 2;
            if (right ? number >= cx_value(items[middle]) : cx_value(items[middle]) < number)
                low = middle + 1;
            else
                high = middle;
        }
        return low;
    }
    """
    Py_ssize_t cx_bisect(object numbers, object number, Py_ssize_t low, int right) noexcept
    Py_ssize_t cx_bisect_value(object numbers, long long number, Py_ssize_t low, int right) noexcept
    long long cx_value(object number) noexcept

ctypedef long long longlong

ctypedef fused Number:
    object
    longlong


cdef inline Py_ssize_t bisect_left(object numbers, Number number, Py_ssize_t low=0) noexcept:
    if Number is object:
        return cx_bisect(numbers, number, low, 0)
    else:
        return cx_bisect_value(numbers, number, low, 0)


cdef inline Py_ssize_t bisect_right(object numbers, Number number, Py_ssize_t low=0) noexcept:
    if Number is object:
        return cx_bisect(numbers, number, low, 1)
    else:
        return cx_bisect_value(numbers, number, low, 1)
