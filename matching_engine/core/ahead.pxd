# What C does in place of the function of `ahead.py`: in stages, so that what one stage asks for is there for the next.
# It takes no references and calls no Python.
from cpython.object cimport PyObject
from matching_engine.book cimport AskBounds, AskChunk, Book, Chunk, Queue, Stairs
from matching_engine.fetch cimport cx_bisect_value, cx_fetch, cx_fetch_order, cx_found, cx_is_int, cx_items, cx_size, cx_type, AT_ONCE, FRONT
from matching_engine.ids cimport ById, Place
from matching_engine.search cimport cx_value
from matching_engine.structs cimport Cancel as CCancel, PlaceAsk as CPlaceAsk, PlaceBid as CPlaceBid, Resting as CResting


cdef inline void fetch_chunk(PyObject *chunk) noexcept:
    cx_fetch(<char *>chunk)
    cx_fetch(<char *>chunk + 64)
    cx_fetch(<char *>chunk + 128)


cdef inline Py_ssize_t fetch_front(PyObject *queue, PyObject **fronts, Py_ssize_t count) noexcept:
    """Adds who is met first to `fronts`, of which there are so many; how many there are then."""
    cdef PyObject *chunks = <PyObject *>(<Queue>queue).chunks
    cdef PyObject *orders
    cdef Py_ssize_t at, first
    cdef Py_ssize_t most = count + FRONT
    for at in range(min(cx_size(chunks), <Py_ssize_t>3)):
        fetch_chunk(cx_items(chunks)[at])
        orders = <PyObject *>(<Chunk>cx_items(chunks)[at]).orders
        first = (<Chunk>cx_items(chunks)[at]).first
        while first < cx_size(orders) and count < most:
            fronts[count] = cx_items(orders)[first]
            cx_fetch_order(fronts[count])
            first += 1
            count += 1
    return count


cdef inline object foresee(ById orders, dict books, object following, object commands):
    cdef PyObject *told
    cdef PyObject *kind
    cdef PyObject *price
    cdef PyObject *class_id
    cdef PyObject *queue
    cdef PyObject *chunks
    cdef PyObject *there
    cdef PyObject *asked = NULL
    cdef PyObject *book = NULL
    cdef Place *places[AT_ONCE]
    cdef PyObject *behind[AT_ONCE]
    cdef PyObject *stairs[AT_ONCE]
    cdef PyObject *fronts[2 * FRONT]
    cdef Py_ssize_t at, size
    cdef Py_ssize_t met = 0
    cdef long long order_id = cx_value(following)
    cdef Py_ssize_t count
    if type(commands) is not list:
        return None
    count = min(cx_size(<PyObject *>commands), <Py_ssize_t>AT_ONCE)
    for at in range(count):
        told = cx_items(<PyObject *>commands)[at]
        kind = cx_type(told)
        places[at] = NULL
        behind[at] = stairs[at] = NULL
        if kind == <PyObject *>CCancel:
            there = <PyObject *>(<CCancel>told).order_id
            if cx_is_int(there):
                places[at] = orders.home(cx_value(<object>there))
                cx_fetch(places[at])
        elif kind == <PyObject *>CPlaceAsk or kind == <PyObject *>CPlaceBid:
            cx_fetch(orders.home(order_id + at))
            if kind == <PyObject *>CPlaceAsk:
                price = <PyObject *>(<CPlaceAsk>told).price
                class_id = <PyObject *>(<CPlaceAsk>told).class_id
            else:
                price = <PyObject *>(<CPlaceBid>told).price
                class_id = <PyObject *>(<CPlaceBid>told).class_id
            if class_id != asked:
                asked = class_id
                there = cx_found(<PyObject *>books, class_id)
                if there != NULL and not met:
                    met = fetch_front(<PyObject *>(<Book>there).ask_queue, fronts, 0)
                    met = fetch_front(<PyObject *>(<Book>there).bid_queue, fronts, met)
                book = there
            if book != NULL and cx_is_int(price):
                if kind == <PyObject *>CPlaceAsk:
                    queue = <PyObject *>(<Book>book).ask_queue
                else:
                    queue = <PyObject *>(<Book>book).bid_queue
                chunks = <PyObject *>(<Queue>queue).chunks
                if cx_size(chunks):
                    size = cx_bisect_value(<PyObject *>(<Queue>queue).first_ranks, (<Queue>queue)._sign * cx_value(<object>price), 0, 1)
                    behind[at] = cx_items(chunks)[size - 1 if size else 0]
                    fetch_chunk(behind[at])
                    if kind == <PyObject *>CPlaceAsk:
                        stairs[at] = behind[at]
    for at in range(count):
        if places[at] != NULL and places[at].order != NULL:
            cx_fetch_order(<PyObject *>places[at].order)
        if behind[at] != NULL:
            if stairs[at] != NULL:
                stairs[at] = <PyObject *>(<AskChunk>behind[at]).bounds
                cx_fetch(stairs[at])
            cx_fetch(<PyObject *>(<Chunk>behind[at]).ranks)
            behind[at] = <PyObject *>(<Chunk>behind[at]).orders
            cx_fetch(behind[at])
    for at in range(count):
        if places[at] != NULL and places[at].order != NULL:
            there = <PyObject *>(<CResting>places[at].order).chunk
            if there != <PyObject *>None:
                fetch_chunk(there)
        if behind[at] != NULL and cx_size(behind[at]):
            cx_fetch(cx_items(behind[at]) + cx_size(behind[at]) - 1)
            if stairs[at] != NULL:
                stairs[at] = <PyObject *>(<AskBounds>stairs[at]).stairs
                cx_fetch(stairs[at])
    for at in range(count):
        if behind[at] != NULL and cx_size(behind[at]):
            cx_fetch_order(cx_items(behind[at])[cx_size(behind[at]) - 1])
            if stairs[at] != NULL:
                cx_fetch(<PyObject *>(<Stairs>stairs[at]).starts)
                cx_fetch(<PyObject *>(<Stairs>stairs[at]).ends)
    for at in range(met):
        cx_fetch(<PyObject *>(<CResting>fronts[at]).id)
        cx_fetch(<PyObject *>(<CResting>fronts[at]).place)
        cx_fetch(<PyObject *>(<CResting>fronts[at]).price)
    for at in range(met):
        cx_fetch(orders.home(cx_value((<CResting>fronts[at]).id)))
    return None
