cimport cython
from matching_engine.asks cimport measure, recall
from matching_engine.book cimport Book, Known
from matching_engine.columns cimport spread, structs

cpdef list restored_asks(Book book, Known known, stored)
cpdef list restored_bids(Book book, Known known, stored)
