# What `ids.py` does, for the compiled core: a table with open addressing and linear probing, whose orders are found with
# no object for the id but the one that is asked for.

cimport cython
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from cpython.ref cimport Py_DECREF, Py_INCREF
from matching_engine.fetch cimport cx_fetch
from matching_engine.search cimport cx_value

cdef enum:
    FIRST_BITS = 3
    AHEAD = 16

# Where an id is looked for first are the highest bits of it times this number, another one in each process.
cdef unsigned long long _factor = <unsigned long long><long long>hash("orders") | 1

_NOBODY = object()


@cython.final
cdef class ById:
    def __cinit__(self):
        self.places = <Place *>PyMem_RawCalloc(1 << FIRST_BITS, sizeof(Place))
        if self.places == NULL:
            raise MemoryError
        self.shift = 64 - FIRST_BITS
        self.mask = (1 << FIRST_BITS) - 1

    def __dealloc__(self):
        cdef size_t at
        for at in range(self.mask + 1):
            if self.places[at].order != NULL:
                Py_DECREF(<object>self.places[at].order)
        PyMem_RawFree(self.places)

    cdef Place *home(self, long long order_id) noexcept:
        """Where the order is, unless another one is there."""
        return self.places + ((<unsigned long long>order_id * _factor) >> self.shift)

    cpdef object expect(self, size_t count):
        while not self.count and 2 * count > self.mask:
            self.mask, self.shift = 2 * self.mask + 1, self.shift - 1
        if not self.count:
            PyMem_RawFree(self.places)
            self.places = <Place *>PyMem_RawCalloc(self.mask + 1, sizeof(Place))
            if self.places == NULL:
                raise MemoryError

    cdef Place *find(self, long long order_id) noexcept:
        """Where the order is, or the empty place where it would be."""
        cdef size_t at = (<unsigned long long>order_id * _factor) >> self.shift
        while self.places[at].order != NULL and self.places[at].order_id != order_id:
            at = (at + 1) & self.mask
        return self.places + at

    cpdef object get(self, object order_id):
        cdef Place *place = self.find(cx_value(order_id))
        return None if place.order == NULL else <object>place.order

    cdef int put(self, object order_id, object order) except -1:
        cdef long long number = cx_value(order_id)
        cdef Place *place = self.find(number)
        Py_INCREF(order)
        if place.order != NULL:
            Py_DECREF(<object>place.order)
            place.order = <void *>order
            return 0
        place.order_id, place.order = number, <void *>order
        self.count += 1
        if 2 * self.count > self.mask:
            self.grow()
        return 0

    cpdef object put_all(self, list ids, list orders):
        cdef Py_ssize_t at, size = min(len(ids), len(orders))
        for at in range(size):
            if at + AHEAD < size:  # so that several places are waited for at once
                cx_fetch(self.home(cx_value(ids[at + AHEAD])))
            self.put(ids[at], orders[at])

    cdef int drop(self, object order_id) except -1:
        """Those behind it that would not be found any more move up."""
        cdef Place *place = self.find(cx_value(order_id))
        cdef Place *places = self.places
        cdef size_t mask = self.mask, at, hole, home
        cdef void *gone = place.order
        if gone == NULL:
            raise KeyError(order_id)
        at = hole = place - places
        while True:
            at = (at + 1) & mask
            if places[at].order == NULL:
                break
            home = (<unsigned long long>places[at].order_id * _factor) >> self.shift
            if ((at - home) & mask) >= ((at - hole) & mask):
                places[hole] = places[at]
                hole = at
        places[hole].order = NULL
        self.count -= 1
        Py_DECREF(<object>gone)
        return 0

    cdef int grow(self) except -1:
        cdef Place *before = self.places
        cdef size_t places = self.mask + 1, at
        cdef Place *more = <Place *>PyMem_RawCalloc(2 * places, sizeof(Place))
        if more == NULL:
            raise MemoryError
        self.places, self.mask, self.shift = more, 2 * places - 1, self.shift - 1
        for at in range(places):
            if before[at].order != NULL:
                self.find(before[at].order_id)[0] = before[at]
        PyMem_RawFree(before)
        return 0

    cpdef object pop(self, object order_id, object default=_NOBODY):
        order = self.get(order_id)
        if order is not None:
            self.drop(order_id)
            return order
        if default is _NOBODY:
            raise KeyError(order_id)
        return default

    def __len__(self):
        return self.count

    def __contains__(self, object order_id):
        return self.get(order_id) is not None

    def __setitem__(self, object order_id, object order):
        self.put(order_id, order)

    def __delitem__(self, object order_id):
        self.drop(order_id)

    def update(self, pairs):
        for order_id, order in pairs:
            self.put(order_id, order)

    def values(self):
        cdef size_t at
        values = []
        for at in range(self.mask + 1):
            if self.places[at].order != NULL:
                values.append(<object>self.places[at].order)
        return values
