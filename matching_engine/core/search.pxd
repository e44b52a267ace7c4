# What C does in place of a function of that name: searches in sorted lists and tuples of ints, as `bisect` does them;
# looks at numbers, names and times, as `checks` does; whether Structs differ; what is put into a list or taken out of
# one; all of `rings`, whose numbers this has again.

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

    static CYTHON_INLINE long long cx_value(PyObject *number) {
    #if PY_VERSION_HEX < 0x030C0000
        Py_ssize_t size = Py_SIZE(number);
        digit *digits = ((PyLongObject *)number)->ob_digit;
        if ((size_t)(size + 1) <= 2)
            return size * (long long)digits[0];
        if ((size_t)(size + 2) <= 4)
            return size / 2 * ((long long)digits[1] << PyLong_SHIFT | digits[0]);
    #endif
        int beyond;
        long long value = PyLong_AsLongLongAndOverflow(number, &beyond);
        return beyond ? (beyond > 0 ? PY_LLONG_MAX : PY_LLONG_MIN) : value;
    }

    static CYTHON_INLINE long long cx_read(void *number) {
        return cx_value((PyObject *)number);
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

    // PyList_Insert moves what stands behind one by one.
    static CYTHON_INLINE int cx_insert(PyObject *list, Py_ssize_t place, PyObject *item) {
        Py_ssize_t size = PyList_GET_SIZE(list);
        if (place < 0 || place > size || size >= ((PyListObject *)list)->allocated)
            return PyList_Insert(list, place, item);
        PyObject **there = ((PyListObject *)list)->ob_item + place;
        memmove(there + 1, there, (size - place) * sizeof(PyObject *));
        *there = Py_NewRef(item);
        Py_SET_SIZE(list, size + 1);
        return 0;
    }
    #define PyList_Insert cx_insert

    // The room that it has serves the next ones.
    static CYTHON_INLINE void cx_empty(PyObject *list) {
        Py_ssize_t size = PyList_GET_SIZE(list);
        PyObject **items = PySequence_Fast_ITEMS(list);
        Py_SET_SIZE(list, 0);
        while (size--)
            Py_DECREF(items[size]);
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
        Py_ssize_t size = Py_SIZE(a) < Py_SIZE(b) ? Py_SIZE(a) : Py_SIZE(b), place = 0;
        digit *one = ((PyLongObject *)a)->ob_digit, *other = ((PyLongObject *)b)->ob_digit;
        for (; place + 4 <= size; place += 4)  // by fours: three of four meet nowhere
            if (one[place] & other[place] | one[place + 1] & other[place + 1] | one[place + 2] & other[place + 2] |
                one[place + 3] & other[place + 3])
                return 1;
        for (; place < size; place++)
            if (one[place] & other[place])
                return 1;
        return 0;
    #else
        PyObject *both = PyNumber_And(a, b);
        int some = both != NULL && PyObject_IsTrue(both) == 1;
        Py_XDECREF(both);
        return some;
    #endif
    }

    #define CX_RING 4096

    #if PY_VERSION_HEX < 0x030C0000
    static CYTHON_INLINE digit cx_digit_from(PyLongObject *number, Py_ssize_t bit) {
        Py_ssize_t place = bit / PyLong_SHIFT, shift = bit % PyLong_SHIFT, size = Py_SIZE(number);
        digit bits = place < size ? number->ob_digit[place] >> shift : 0;
        if (shift && place + 1 < size)
            bits |= number->ob_digit[place + 1] << (PyLong_SHIFT - shift) & PyLong_MASK;
        return bits;
    }
    #endif

    static CYTHON_INLINE int cx_shows(PyObject *ring, PyObject *at, long long gap) {
    #if PY_VERSION_HEX < 0x030C0000
        PyLongObject *hours = (PyLongObject *)ring, *starts = (PyLongObject *)at;
        Py_ssize_t size = Py_SIZE(ring) < Py_SIZE(at) ? Py_SIZE(ring) : Py_SIZE(at);
        for (Py_ssize_t place = 0; place < size; place++) {
            digit then = hours->ob_digit[place] & starts->ob_digit[place];
            if (!then)
                continue;
            if (!gap)
                return 1;
            Py_ssize_t bit = place * PyLong_SHIFT + gap;
            if (then & cx_digit_from(hours, bit))
                return 1;
            if (bit + PyLong_SHIFT > CX_RING) {  // some of it begins anew
                Py_ssize_t back = bit - CX_RING;
                digit again = back >= 0 ? cx_digit_from(hours, back) : hours->ob_digit[0] << -back & PyLong_MASK;
                if (then & again)
                    return 1;
            }
        }
        return 0;
    #else
        PyObject *then = PyNumber_And(ring, at);
        int some = then != NULL && PyObject_IsTrue(then) == 1;
        if (some && gap) {
            PyObject *by = PyLong_FromLongLong(gap), *around = PyLong_FromLong(CX_RING);
            PyObject *later = by ? PyNumber_Lshift(then, by) : NULL;
            PyObject *anew = later && around ? PyNumber_Rshift(later, around) : NULL;
            some = anew != NULL && (cx_meet(ring, later) || cx_meet(ring, anew));
            Py_XDECREF(by); Py_XDECREF(around); Py_XDECREF(later); Py_XDECREF(anew);
        }
        Py_XDECREF(then);
        return some;
    #endif
    }

    static CYTHON_INLINE int cx_opens(PyObject *run, PyObject *starts, long long later, long long gap) {
    #if PY_VERSION_HEX < 0x030C0000
        PyLongObject *hours = (PyLongObject *)run;
        for (Py_ssize_t place = 0; place < Py_SIZE(starts); place++) {
            digit then = ((PyLongObject *)starts)->ob_digit[place];
            long long bit = place * PyLong_SHIFT + later;
            if (!then || bit <= -PyLong_SHIFT)
                continue;
            if (bit < 0)  // what is earlier than the run is not open
                then &= PyLong_MASK << -bit;
            then &= bit >= 0 ? cx_digit_from(hours, bit) : hours->ob_digit[0] << -bit;
            if (then && gap)
                then &= bit + gap >= 0 ? cx_digit_from(hours, bit + gap) : hours->ob_digit[0] << -(bit + gap);
            if (then && Py_SIZE(run))
                return 1;
        }
        return 0;
    #else
        PyObject *by = PyLong_FromLongLong(later < 0 ? -later : later), *then = NULL;
        if (by)
            then = later < 0 ? PyNumber_Rshift(starts, by) : PyNumber_Lshift(starts, by);
        int some = then != NULL && cx_meet(run, then);
        if (some && gap) {
            PyObject *both = PyNumber_And(run, then), *more = PyLong_FromLongLong(gap);
            PyObject *behind = both && more ? PyNumber_Lshift(both, more) : NULL;
            some = behind != NULL && cx_meet(run, behind);
            Py_XDECREF(both); Py_XDECREF(more); Py_XDECREF(behind);
        }
        Py_XDECREF(by); Py_XDECREF(then);
        return some;
    #endif
    }

    static CYTHON_INLINE PyObject *cx_span(long long first, long long after) {
    #if PY_VERSION_HEX < 0x030C0000
        Py_ssize_t size = (after + PyLong_SHIFT - 1) / PyLong_SHIFT, low = first / PyLong_SHIFT;
        if (first >= after)
            return PyLong_FromLong(0);
        PyLongObject *made = _PyLong_New(size);
        if (made) {
            for (Py_ssize_t place = 0; place < size; place++)
                made->ob_digit[place] = place < low ? 0 : PyLong_MASK;
            made->ob_digit[low] &= PyLong_MASK << first % PyLong_SHIFT & PyLong_MASK;
            if (after % PyLong_SHIFT)
                made->ob_digit[size - 1] &= PyLong_MASK >> (PyLong_SHIFT - after % PyLong_SHIFT);
        }
        return (PyObject *)made;
    #else
        PyObject *one = PyLong_FromLong(1), *low = PyLong_FromLongLong(first), *high = PyLong_FromLongLong(after);
        PyObject *below = one && low ? PyNumber_Lshift(one, low) : NULL, *all = one && high ? PyNumber_Lshift(one, high) : NULL;
        PyObject *made = below && all ? PyNumber_Subtract(all, below) : NULL;
        Py_XDECREF(one); Py_XDECREF(low); Py_XDECREF(high); Py_XDECREF(below); Py_XDECREF(all);
        return made;
    #endif
    }

    static CYTHON_INLINE PyObject *cx_twice(PyObject *run, Py_ssize_t later) {
    #if PY_VERSION_HEX < 0x030C0000
        Py_ssize_t size = Py_SIZE(run) - later / PyLong_SHIFT, shift = later % PyLong_SHIFT;
        digit *now = ((PyLongObject *)run)->ob_digit, *then = now + later / PyLong_SHIFT;
        if (size > 0 && !(now[size - 1] & then[size - 1] >> shift))  // its highest digit has no other behind it
            for (size--; size > 0; size--)
                if (now[size - 1] & (then[size - 1] >> shift | then[size] << (PyLong_SHIFT - shift)))
                    break;
        if (size <= 0)
            return PyLong_FromLong(0);
        PyLongObject *made = _PyLong_New(size);
        if (made) {
            Py_ssize_t whole = Py_SIZE(run) - later / PyLong_SHIFT - 1;
            for (Py_ssize_t place = 0; place < size; place++)
                made->ob_digit[place] = now[place] & (then[place] >> shift | (place < whole ? then[place + 1] << (PyLong_SHIFT - shift) : 0));
        }
        return (PyObject *)made;
    #else
        PyObject *by = PyLong_FromSsize_t(later), *rest = by ? PyNumber_Rshift(run, by) : NULL;
        PyObject *made = rest ? PyNumber_And(run, rest) : NULL;
        Py_XDECREF(by); Py_XDECREF(rest);
        return made;
    #endif
    }

    // Of starts that `cx_well_timed` has passed.
    static CYTHON_INLINE PyObject *cx_hours_of(PyObject *starts, PyObject *duration) {
        enum { HOUR = 3600000, MOST_HOURS = 366 * 24 };
        unsigned char bits[MOST_HOURS / 8];
        PyObject **items = PySequence_Fast_ITEMS(starts);
        Py_ssize_t count = PySequence_Fast_GET_SIZE(starts), size = 0;
        long long length = (cx_value(duration) + HOUR - 1) / HOUR, first = cx_value(items[0]), last = first, gap = length;
        int twice = 0;
        while (2LL << twice <= length)
            twice++;
        gap -= 1LL << twice;
        for (Py_ssize_t place = 1; place < count; place++) {
            long long start = cx_value(items[place]);
            first = start < first ? start : first;
            last = start > last ? start : last;
        }
        first /= HOUR;
        if (last / HOUR - first >= MOST_HOURS)
            Py_RETURN_NONE;
        for (Py_ssize_t place = 0; place < count; place++) {
            Py_ssize_t bit = cx_value(items[place]) / HOUR - first;
            for (; size <= bit / 8; size++)
                bits[size] = 0;
            bits[bit / 8] |= 1 << bit % 8;
        }
        PyObject *hours = PyTuple_New(4);
        if (hours) {
            PyTuple_SET_ITEM(hours, 0, PyLong_FromLongLong(first));
            PyTuple_SET_ITEM(hours, 1, _PyLong_FromByteArray(bits, size, 1, 0));
            PyTuple_SET_ITEM(hours, 2, PyLong_FromLong(twice));
            PyTuple_SET_ITEM(hours, 3, PyLong_FromLongLong(gap));
        }
        return hours;
    }

    static CYTHON_INLINE int cx_well_timed(PyObject *starts, PyObject *duration) {
        const long long GRID = 60000, YEAR = 31536000000, LATEST = 253402300799999 - YEAR;
        Py_ssize_t count = PyTuple_GET_SIZE(starts);
        long long window = cx_value(duration), before = -1;
        if (window < GRID || window > YEAR || window % GRID || count < 1 || count > 32)
            return 0;
        for (Py_ssize_t place = 0; place < count; place++) {
            long long start = cx_value(PyTuple_GET_ITEM(starts, place));
            if (start < 0 || start > LATEST || start % GRID)
                return 0;
            if (start <= before)  // usually they are in order
                for (Py_ssize_t other = 0; other < place; other++)
                    if (cx_value(PyTuple_GET_ITEM(starts, other)) == start)
                        return 0;
            before = start > before ? start : before;
        }
        return 1;
    }

    // Without a branch on what it finds: half of such the processor would guess wrong.
    static CYTHON_INLINE Py_ssize_t cx_bisect_value(PyObject *numbers, long long number, Py_ssize_t low, int right) {
        if (!PyList_Check(numbers) && !PyTuple_Check(numbers)) {  // an array of such numbers
            long long *values = *(long long **)((PyVarObject *)numbers + 1) + low, *first = values;
            Py_ssize_t size = Py_SIZE(numbers) - low;
            if (size <= 0)
                return low;
            while (size > 1) {
                Py_ssize_t half = size / 2;
                values += (right ? values[half - 1] <= number : values[half - 1] < number) ? half : 0;
                size -= half;
            }
            return low + (values - first) + (right ? *values <= number : *values < number);
        }
        PyObject **items = PySequence_Fast_ITEMS(numbers) + low, **first = items;
        Py_ssize_t size = PySequence_Fast_GET_SIZE(numbers) - low;
        if (size <= 0)
            return low;
        while (size > 1) {
            Py_ssize_t half = size / 2;
            items += (right ? cx_value(items[half - 1]) <= number : cx_value(items[half - 1]) < number) ? half : 0;
            size -= half;
        }
        return low + (items - first) + (right ? cx_value(*items) <= number : cx_value(*items) < number);
    }

    static CYTHON_INLINE int cx_same_ints(PyObject *one, PyObject *other) {
        Py_ssize_t size = PyTuple_GET_SIZE(one);
        if (one == other)
            return 1;
        if (size != PyTuple_GET_SIZE(other))
            return 0;
        for (Py_ssize_t place = 0; place < size; place++)
            if (cx_value(PyTuple_GET_ITEM(one, place)) != cx_value(PyTuple_GET_ITEM(other, place)))
                return 0;
        return 1;
    }

    static CYTHON_INLINE int cx_has_0(PyObject *numbers) {
        for (Py_ssize_t place = 0; place < PyTuple_GET_SIZE(numbers); place++)
            if (!cx_value(PyTuple_GET_ITEM(numbers, place)))
                return 1;
        return 0;
    }

    static CYTHON_INLINE Py_ssize_t cx_bisect(PyObject *numbers, PyObject *number, Py_ssize_t low, int right) {
        if (!PyList_Check(numbers) && !PyTuple_Check(numbers))
            return cx_bisect_value(numbers, cx_value(number), low, right);
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
    """
    Py_ssize_t cx_bisect(object numbers, object number, Py_ssize_t low, int right) noexcept
    Py_ssize_t cx_bisect_value(object numbers, long long number, Py_ssize_t low, int right) noexcept
    long long cx_value(object number) noexcept
    long long cx_read(void *number) noexcept
    void cx_empty(list items) noexcept
    bint cx_less(object a, object b) noexcept
    bint cx_same_ints(tuple one, tuple other) noexcept
    bint cx_has_0(tuple numbers) noexcept
    bint is_account "cx_is_account" (object number) noexcept
    tuple taken "cx_taken" (list events)
    bint ne "cx_ne" (object one, object other) except -1
    bint is_name "cx_is_name" (object text) noexcept
    bint cx_meet(object a, object b) noexcept
    bint shows "cx_shows" (object ring, object at, long long gap) noexcept
    bint opens "cx_opens" (object run, object starts, long long later, long long gap) noexcept
    object span "cx_span" (long long first, long long after)
    object twice "cx_twice" (object run, Py_ssize_t later)
    object hours_of "cx_hours_of" (object starts, object duration)
    bint well_timed "cx_well_timed" (object starts, object duration) noexcept

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
