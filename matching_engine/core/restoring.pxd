cimport cython
from matching_engine.asks cimport measure, recall
from matching_engine.book cimport Book, Known

cpdef list restored_asks(Book book, Known known, stored)
cpdef list restored_bids(Book book, Known known, stored)
cdef list _each(column, Py_ssize_t count)
@cython.locals(number=Py_ssize_t, numbers=bytes)
cdef list _of(column, list made, Py_ssize_t count)
