# What C does in place of a function of that name: searches in sorted lists and tuples of ints, as `bisect` does them;
# looks at numbers and names, as `checks` does; whether Structs differ; what is taken out of a list.

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
        if (size == -1)
            return -(long long)digits[0];
        if (size == -2)
            return -((long long)digits[1] << PyLong_SHIFT | digits[0]);
    #endif
        int beyond;
        long long value = PyLong_AsLongLongAndOverflow(number, &beyond);
        return beyond ? (beyond > 0 ? PY_LLONG_MAX : PY_LLONG_MIN) : value;
    }

    // Equal Structs have the very same objects mostly: enums, small ints, texts that are one object.
    static CYTHON_INLINE int cx_ne(PyObject *one, PyObject *other) {
        if (Py_TYPE(one) == Py_TYPE(other) &&
            !memcmp(one + 1, other + 1, Py_TYPE(one)->tp_basicsize - sizeof(PyObject)))
            return 0;
        return PyObject_RichCompareBool(one, other, Py_NE);
    }

    static CYTHON_INLINE int cx_is_account(PyObject *number) {
    #if PY_VERSION_HEX < 0x030C0000
        if (Py_SIZE(number) == 1 || Py_SIZE(number) == 2)
            return 1;
    #endif
        int beyond;
        return PyLong_AsLongLongAndOverflow(number, &beyond) > 0;
    }

    static CYTHON_INLINE int cx_is_name(PyObject *text) {
        Py_ssize_t size = PyUnicode_GET_LENGTH(text);
        if (size < 1 || size > 64 || !PyUnicode_IS_ASCII(text))
            return 0;
        unsigned char *letters = PyUnicode_1BYTE_DATA(text);
        unsigned long long some, wrong = 0;
        while (size >= 8) {  // a borrow or a carry into the highest bits of eight letters at once
            memcpy(&some, letters + (size -= 8), 8);
            wrong |= (some - 0x2020202020202020) | (some + 0x0101010101010101);
        }
        wrong &= 0x8080808080808080;
        while (size--)
            wrong |= letters[size] < ' ' || letters[size] > '~';
        return !wrong;
    }

    static CYTHON_INLINE PyObject *cx_taken(PyObject *events) {
        Py_ssize_t size = PyList_GET_SIZE(events);
        PyObject *made = PyTuple_New(size);
        if (made) {
            memcpy(PySequence_Fast_ITEMS(made), PySequence_Fast_ITEMS(events), size * sizeof(PyObject *));
            Py_SET_SIZE(events, 0);
        }
        return made;
    }

    static CYTHON_INLINE int cx_meet(PyObject *a, PyObject *b) {
    #if PY_VERSION_HEX < 0x030C0000
        Py_ssize_t size = Py_SIZE(a) < Py_SIZE(b) ? Py_SIZE(a) : Py_SIZE(b);
        for (Py_ssize_t place = 0; place < size; place++)
            if (((PyLongObject *)a)->ob_digit[place] & ((PyLongObject *)b)->ob_digit[place])
                return 1;
        return 0;
    #else
        PyObject *both = PyNumber_And(a, b);
        int some = both != NULL && PyObject_IsTrue(both) == 1;
        Py_XDECREF(both);
        return some;
    #endif
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
    bint is_account "cx_is_account" (object number) noexcept
    tuple taken "cx_taken" (list events)
    bint ne "cx_ne" (object one, object other) except -1
    bint is_name "cx_is_name" (object text) noexcept
    bint cx_meet(object a, object b) noexcept

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
