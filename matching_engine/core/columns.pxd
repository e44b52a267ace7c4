# What C does in place of functions of `columns.py`.
cdef extern from *:
    """
    #include <structmember.h>

    // A Struct's field: where it lies, and of which values each one has which.
    typedef struct { Py_ssize_t offset, width; PyObject **values; const unsigned char *numbers; } CxField;

    static CYTHON_INLINE size_t cx_number(CxField *field, Py_ssize_t of) {
        const unsigned char *at = field->numbers + of * field->width;
        size_t number = 0;
        for (Py_ssize_t byte = field->width; byte--;)
            number = number << 8 | at[byte];
        return number;
    }

    // Whether it is one, of which no number is beyond its values; width 0 is of one value for all, -1 of one for each.
    static int cx_read_field(CxField *field, PyObject *values, PyObject *numbers, Py_ssize_t count) {
        Py_ssize_t size = PyList_GET_SIZE(values);
        field->values = PySequence_Fast_ITEMS(values);
        field->width = numbers == Py_None ? -1 : 0;
        if (numbers == Py_None || size == 1)
            return numbers == Py_None ? size == count : 1;
        field->numbers = (unsigned char *)PyBytes_AS_STRING(numbers);
        field->width = PyBytes_GET_SIZE(numbers) / count;
        if (PyBytes_GET_SIZE(numbers) != field->width * count || field->width < 1 || field->width > 8)
            return 0;
        for (Py_ssize_t of = 0; of < count; of++)
            if (cx_number(field, of) >= (size_t)size)
                return 0;
        return 1;
    }

    static void cx_fill_field(CxField *field, char **there, Py_ssize_t first, Py_ssize_t some) {
        #define CX_FILL(number) for (Py_ssize_t of = 0; of < some; of++) \
            *(PyObject **)(there[of] + field->offset) = Py_NewRef(field->values[number]);
        if (field->width < 0) {
            CX_FILL(first + of)
        } else if (field->width == 1) {
            CX_FILL(field->numbers[first + of])
        } else if (field->width) {
            CX_FILL(cx_number(field, first + of))
        } else {
            PyObject *value = field->values[0];
            Py_SET_REFCNT(value, Py_REFCNT(value) + some);
            for (Py_ssize_t of = 0; of < some; of++)
                *(PyObject **)(there[of] + field->offset) = value;
        }
    }

    // Field by field, of some dozens at a time, which the nearest cache holds.
    static PyObject *cx_structs(PyObject *kind, Py_ssize_t count, PyObject *fields) {
        enum { SOME = 32, MOST = 64 };
        CxField read[MOST];
        PyObject *none[] = {Py_None}, *names = PyObject_GetAttrString(kind, "__struct_fields__"), *made;
        if (!names)
            return NULL;
        Py_ssize_t given = PyList_GET_SIZE(fields), size = PyTuple_GET_SIZE(names);
        int sound = count > 0 && given <= size && size <= MOST && !PyType_IS_GC((PyTypeObject *)kind);
        for (Py_ssize_t place = 0; sound && place < size; place++) {
            PyObject *member = _PyType_Lookup((PyTypeObject *)kind, PyTuple_GET_ITEM(names, place));
            sound = member && Py_IS_TYPE(member, &PyMemberDescr_Type);
            if (!sound)
                break;
            read[place] = (CxField){((PyMemberDescrObject *)member)->d_member->offset, 0, none};
            if (place < given) {
                PyObject *field = PyList_GET_ITEM(fields, place);
                sound = cx_read_field(&read[place], PyTuple_GET_ITEM(field, 0), PyTuple_GET_ITEM(field, 1), count);
            }
        }
        Py_DECREF(names);
        if (!sound)
            return PyErr_Format(PyExc_ValueError, "these columns do not hold %zd of %R", count, kind);
        if (!(made = PyList_New(count)))
            return NULL;
        for (Py_ssize_t first = 0; first < count; first += SOME) {
            Py_ssize_t some = count - first < SOME ? count - first : SOME;
            char **there = (char **)PySequence_Fast_ITEMS(made) + first;
            for (Py_ssize_t of = 0; of < some; of++) {
                if (!(there[of] = (char *)_PyObject_New((PyTypeObject *)kind))) {
                    Py_DECREF(made);
                    return NULL;
                }
                memset(there[of] + sizeof(PyObject), 0, ((PyTypeObject *)kind)->tp_basicsize - sizeof(PyObject));
            }
            for (Py_ssize_t place = 0; place < size; place++)
                cx_fill_field(&read[place], there, first, some);
        }
        return made;
    }

    static PyObject *cx_spread(PyObject *values, PyObject *numbers, Py_ssize_t count) {
        CxField field;
        if (count <= 0 || !cx_read_field(&field, values, numbers, count))
            return PyErr_Format(PyExc_ValueError, "this column does not hold %zd values", count);
        PyObject *made = PyList_New(count);
        for (Py_ssize_t of = 0; made && of < count; of++) {
            size_t number = field.width < 0 ? of : field.width == 1 ? field.numbers[of] : field.width ? cx_number(&field, of) : 0;
            PyList_SET_ITEM(made, of, Py_NewRef(field.values[number]));
        }
        return made;
    }
    """
    list structs "cx_structs" (object kind, Py_ssize_t count, list fields)
    list spread "cx_spread" (list values, object numbers, Py_ssize_t count)
