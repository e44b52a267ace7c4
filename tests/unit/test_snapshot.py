"""Snapshots on disk: whole or not used, never beyond the last answer, and a start from one is a start."""

import hashlib
from pathlib import Path

import msgspec
import pytest

from gateways.log.embedded import EmbeddedLog
from matching_engine import replay, snapshot
from matching_engine.columns import in_columns
from matching_engine.engine import Engine, UnknownRulesError
from matching_engine.replay import digest_of, last_answered, next_offset, records, recovered, verified
from schemas.codec import decode_execution, encode
from schemas.commands import Command, SetRules, Tick
from schemas.events import Execution
from schemas.log import LogError
from schemas.topics import COMMANDS, EXECUTIONS
from tests.settling import ScriptedLog
from tests.simulation.streams import stream

COUNT = 400
LOG, OTHER = b"l" * 32, b"o" * 32


def engine_after(count: int) -> Engine:
    engine = Engine(0)
    for offset, time, command in stream("mixed", 3, count):
        engine.apply(offset, time, command)
    return engine


def test_what_was_written_is_read_and_only_the_newest_are_kept(tmp_path: Path) -> None:
    for count in (10, 20, 30, 40):
        snapshot.write(tmp_path, LOG, 0, engine_after(count).state())
    state, passed_over = snapshot.newest(tmp_path, LOG, 0, 10**9)
    assert state == in_columns(engine_after(40).state())
    assert passed_over == []
    assert len(list(tmp_path.iterdir())) == snapshot.KEPT
    assert snapshot.newest(tmp_path, LOG, 1, 10**9) == (None, [])


def test_none_beyond_the_last_answer_is_used(tmp_path: Path) -> None:
    for count in (20, 30, 40):
        snapshot.write(tmp_path, LOG, 0, engine_after(count).state())
    for last, position in ((100, 39), (39, 39), (38, 29), (19, 19)):
        state, _ = snapshot.newest(tmp_path, LOG, 0, last)
        assert state is not None
        assert state.position == position
    assert snapshot.newest(tmp_path, LOG, 0, 18) == (None, [])


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda content: content[:-1], "damaged"),
        (lambda content: content[:50] + bytes([content[50] ^ 1]) + content[51:], "damaged"),
        (lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:], "damaged"),
        (lambda content: content[:12] + b"\x09" + content[13:], "format 09"),
        (lambda content: content[:12] + b"\x01" + content[45:], "format 01"),
        (lambda content: content[:12] + b"\x03" + content[13:], "format 03"),
        (lambda content: content.replace(LOG, OTHER), "of another log"),
        (lambda content: b"", "no snapshot"),
    ],
)
def test_a_damaged_one_is_passed_over_for_the_one_before(tmp_path: Path, damage: object, why: str) -> None:
    assert callable(damage)
    snapshot.write(tmp_path, LOG, 0, engine_after(20).state())
    path = snapshot.write(tmp_path, LOG, 0, engine_after(30).state())
    path.write_bytes(damage(path.read_bytes()))
    state, passed_over = snapshot.newest(tmp_path, LOG, 0, 10**9)
    assert state is not None
    assert state.position == 19
    assert len(passed_over) == 1
    assert why in passed_over[0]


def test_a_whole_one_that_holds_no_state_is_passed_over_and_a_folder_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    path = snapshot.write(folder, LOG, 0, engine_after(30).state())
    content = path.read_bytes()
    payload = msgspec.msgpack.encode([1, 2])
    path.write_bytes(content[:13] + LOG + snapshot.digest(payload) + payload)
    state, (why,) = snapshot.newest(folder, LOG, 0, 10**9)
    assert state is None
    assert why.startswith(f"{path} is of another version: ")


def test_those_of_another_log_are_neither_used_nor_counted(tmp_path: Path) -> None:
    for count in (60, 70, 80):
        snapshot.write(tmp_path, OTHER, 0, engine_after(count).state())
    for count in (10, 20, 30, 40):
        snapshot.write(tmp_path, LOG, 0, engine_after(count).state())
    state, passed_over = snapshot.newest(tmp_path, LOG, 0, 10**9)
    assert state == in_columns(engine_after(40).state())
    assert [why.endswith("is of another log") for why in passed_over] == [True] * 3
    assert [int(path.stem[6:]) for path in sorted(tmp_path.iterdir())] == [19, 29, 39, 59, 69, 79]


def test_its_digest_is_the_state_hash(tmp_path: Path) -> None:
    engine = engine_after(50)
    path = snapshot.write(tmp_path, LOG, 0, engine.state())
    assert engine.state_hash() in path.read_bytes()


def test_rules_from_the_future_stop_the_engine_and_the_past_cannot_come_back() -> None:
    engine = engine_after(50)
    with pytest.raises(UnknownRulesError, match="rules 2"):
        engine.apply(50, 0, SetRules(2))
    state = engine_after(50).state()
    state.rules = 2
    with pytest.raises(UnknownRulesError, match="rules 2"):
        Engine.from_state(0, in_columns(state))


async def answered(log: EmbeddedLog, count: int) -> list[bytes]:
    """Commands and their answers, as an engine leaves them."""
    engine, answers = Engine(0), []
    commands = [command for _, _, command in stream("mixed", 3, count)]
    await log.append(COMMANDS, 0, [encode(command) for command in commands])
    reader = await log.reader(COMMANDS, 0, 0)
    for record, command in zip(await reader.poll(count), commands, strict=True):
        answers.append(encode(engine.apply(record.offset, record.time, command)))
    await reader.close()
    return answers


async def test_a_start_folds_only_what_came_after_the_snapshot(embedded_log: EmbeddedLog, tmp_path: Path) -> None:
    await embedded_log.append(EXECUTIONS, 0, await answered(embedded_log, COUNT))
    last = await last_answered(embedded_log, 0)
    whole = await recovered(embedded_log, 0, last, tmp_path / "s", snapshot_after=COUNT)
    name = await digest_of(embedded_log, 0)
    assert snapshot.newest(tmp_path / "s", name, 0, last)[0] == in_columns(whole.state())
    past = await recovered(embedded_log, 0, 100)
    snapshot.write(tmp_path / "older", name, 0, past.state())
    again = await recovered(embedded_log, 0, last, tmp_path / "older")
    assert again.state_hash() == whole.state_hash()
    assert len(list((tmp_path / "older").iterdir())) == 1, "few were folded: no newer one is needed"


async def test_the_snapshots_of_another_log_are_passed_over_and_said(embedded_log: EmbeddedLog, tmp_path: Path) -> None:
    other = await EmbeddedLog.open(tmp_path / "other")
    await other.append(EXECUTIONS, 0, await answered(other, COUNT))
    await recovered(other, 0, COUNT - 1, tmp_path / "s", snapshot_after=1)
    await other.close()
    await embedded_log.append(COMMANDS, 0, [encode(Tick())] * COUNT)
    why: list[str] = []
    engine = await recovered(embedded_log, 0, COUNT - 1, tmp_path / "s", on_passed_over=why.append)
    assert engine.books == {}
    (said,) = why
    assert said.endswith("is of another log")


async def test_a_snapshot_of_another_format_is_passed_over_and_the_log_folded(
    embedded_log: EmbeddedLog, tmp_path: Path
) -> None:
    await embedded_log.append(EXECUTIONS, 0, await answered(embedded_log, COUNT))
    name = await digest_of(embedded_log, 0)
    whole = await recovered(embedded_log, 0, COUNT - 1)
    path = snapshot.write(tmp_path, name, 0, (await recovered(embedded_log, 0, 100)).state())
    path.write_bytes(path.read_bytes().replace(snapshot.MAGIC + b"\x04", snapshot.MAGIC + b"\x03"))
    why: list[str] = []
    engine = await recovered(embedded_log, 0, COUNT - 1, tmp_path, on_passed_over=why.append)
    assert engine.state_hash() == whole.state_hash()
    assert why == [f"{path} has format 03, and this engine reads 04 alone"]


async def test_a_log_is_told_by_its_id_and_its_first_command() -> None:
    async def name(time: int, *commands: Command, of: str = "one") -> bytes:
        log = ScriptedLog()
        log.id, log.time = of, time
        await log.append(COMMANDS, 0, [encode(command) for command in commands])
        return await digest_of(log, 0)

    first = await name(1, Tick())
    assert first == hashlib.blake2b(b"one" + b"1 " + encode(Tick()), digest_size=32).digest(), "written snapshots stay"
    assert first == await name(1, Tick(), SetRules(1))
    assert first != await name(1, Tick(), of="other")
    assert first not in (await name(2, Tick()), await name(1, SetRules(1)))


async def test_a_replay_finds_the_answer_that_is_not_what_the_rules_give(embedded_log: EmbeddedLog) -> None:
    answers = await answered(embedded_log, COUNT)
    await embedded_log.append(EXECUTIONS, 0, [*answers[:200], *answers[150:200], *answers[200:300]])
    found = await verified(embedded_log, 0)
    assert (found.commands, found.answers, found.differences) == (300, 300, [])
    wrong = Engine(0).apply(300, 0, SetRules(1))
    await embedded_log.append(EXECUTIONS, 0, [encode(type(wrong)(300, 299, wrong.time, wrong.events)), *answers[301:]])
    found = await verified(embedded_log, 0)
    assert [difference.position for difference in found.differences] == [300]
    assert "command 300 was answered" in found.text()
    assert (await verified(embedded_log, 0, until=200)).answers == 201


async def test_answers_from_before_they_said_whose_request_are_no_difference(embedded_log: EmbeddedLog) -> None:
    answers = [decode_execution(answer) for answer in await answered(embedded_log, 30)]
    older = [encode((answer.position, answer.prev, answer.time, answer.events)) for answer in answers]
    await embedded_log.append(EXECUTIONS, 0, older)
    assert (await verified(embedded_log, 0)).differences == []


async def test_what_is_not_answered_is_nothing_and_few_differences_are_named(
    embedded_log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MAX_POLL", 10)
    answers = await answered(embedded_log, COUNT)
    follows = [decode_execution(answer) for answer in answers]
    wrong = [encode(msgspec.structs.replace(answer, time=answer.time + 1)) for answer in follows[5:30]]
    await embedded_log.append(EXECUTIONS, 0, [*answers[:5], *wrong, *answers[30:50]])
    progress: list[tuple[int, int]] = []
    found = await verified(embedded_log, 0, on_progress=lambda done, of: progress.append((done, of)))
    assert (found.partition, found.commands, found.answers) == (0, 50, 50)
    assert [each.position for each in found.differences] == list(range(5, 25)), "the first 20 alone"
    assert progress == [(10, 50), (20, 50), (30, 50), (40, 50), (50, 50)]
    head, first, *_ = found.text().split("\n")
    assert head == f"partition 0: 50 commands, 50 answers, state {found.state_hash}: 20 differences"
    assert first == f"command 5 was answered {decode_execution(wrong[0])}, where it must be {follows[5]}"
    assert found.state_hash == (await recovered(embedded_log, 0, 49)).state_hash().hex()


async def test_a_replay_finds_the_command_that_was_left_out(embedded_log: EmbeddedLog) -> None:
    answers = await answered(embedded_log, 8)
    after = msgspec.structs.replace(decode_execution(answers[6]), prev=4)
    await embedded_log.append(EXECUTIONS, 0, [*answers[:5], encode(after), answers[7]])
    found = await verified(embedded_log, 0)
    assert found.commands == 8
    assert [(each.position, each.published == "nothing") for each in found.differences] == [
        (5, False),
        (6, False),
        (7, True),
    ]


async def test_a_record_that_does_not_come_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    log = ScriptedLog()
    await log.append(COMMANDS, 0, [encode(Tick())] * 3)
    monkeypatch.setattr(replay, "POLL_TIMEOUT_S", 0.01)
    with pytest.raises(LogError, match=r"^offset 3 of commands\.v1, partition 0, could not be read in 0\.01 s$"):
        async for _ in records(log, COMMANDS, 0, 1, 5):
            pass


def test_the_next_offset_is_the_first_before_all_commands() -> None:
    assert [next_offset(position) for position in (-1, 0, 1, 5 << 48)] == [0, 1, 2, 1]


async def test_a_recovery_tells_how_far_it_is_from_its_snapshot_on(
    embedded_log: EmbeddedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MAX_POLL", 10)
    await answered(embedded_log, 40)
    await recovered(embedded_log, 0, 11, tmp_path / "s", snapshot_after=1)
    told: list[tuple[int, int]] = []
    await recovered(embedded_log, 0, 36, tmp_path / "s", on_progress=lambda done, of: told.append((done, of)))
    assert told == [(0, 25), (10, 25), (20, 25)]


async def test_no_record_beyond_the_end_is_read() -> None:
    log = ScriptedLog()
    await log.append(COMMANDS, 0, [encode(Tick())] * 7)
    assert [record.offset async for record in records(log, COMMANDS, 0, 2, 6)] == [2, 3, 4, 5]
    assert [record.offset async for record in records(log, COMMANDS, 0, 6, 6)] == []


async def test_answers_of_another_exchange_are_an_error() -> None:
    log = ScriptedLog()
    assert await last_answered(log, 0) == -1
    await log.append(COMMANDS, 0, [encode(Tick())] * 2)
    for position in (2, 1 << 48):
        await log.append(EXECUTIONS, 0, [encode(Execution(position, -1, 0, ()))])
        with pytest.raises(
            LogError,
            match=f"^executions.v1 answers command {position}, which is not in commands.v1, partition 0: "
            "the two are not of one exchange$",
        ):
            await last_answered(log, 0)
    await log.append(EXECUTIONS, 0, [encode(Execution(1, 0, 0, ()))])
    assert await last_answered(log, 0) == 1


async def test_a_replay_without_differences_says_so(embedded_log: EmbeddedLog) -> None:
    await embedded_log.append(EXECUTIONS, 0, await answered(embedded_log, 30))
    found = await verified(embedded_log, 0)
    state_hash = (await recovered(embedded_log, 0, 29)).state_hash().hex()
    assert found.text() == (
        f"partition 0: 30 commands, 30 answers, state {state_hash}: every answer is what the rules give, byte by byte"
    )


async def test_a_snapshot_is_left_where_much_was_folded_and_not_where_little_was(
    embedded_log: EmbeddedLog, tmp_path: Path
) -> None:
    await answered(embedded_log, 40)
    await recovered(embedded_log, 0, 19, tmp_path / "little", snapshot_after=21)
    assert not (tmp_path / "little").exists()
    await recovered(embedded_log, 0, 19, tmp_path / "enough", snapshot_after=20)
    assert [path.name for path in (tmp_path / "enough").iterdir()] == ["00000-00000000000000000019.snapshot"]
    await recovered(embedded_log, 0, 38, tmp_path / "enough", snapshot_after=20)
    assert len(list((tmp_path / "enough").iterdir())) == 1, "19 were folded"
    assert (await recovered(embedded_log, 0, -1, tmp_path / "little")).position == -1
