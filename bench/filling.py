"""A large call log, made by the database itself from the number of each call."""

# ruff: noqa: E501, S608 - SQL of constants, a column to a line


def insertion(dialect: str, calls: int, days: int, agents: int, open_calls: int, now_s: int) -> str:
    """One statement that makes the call log: most answered, some missed, some with an inferred end, the last ones open.

    Rows are made where they lie: two million of them would take Python half an hour.
    """
    is_sqlite = dialect == "sqlite"
    series = (
        f"with recursive s(n) as (select 0 union all select n + 1 from s where n < {calls - 1}),"
        if is_sqlite
        else f"with s as (select n::bigint from generate_series(0, {calls - 1}) n),"
    )

    def digits(number: str, width: int) -> str:
        return f"printf('%0{width}d', {number})" if is_sqlite else f"lpad(({number})::text, {width}, '0')"

    def stamp(second: str) -> str:
        text = f"strftime('%Y-%m-%d %H:%M:%S.000000', {second}, 'unixepoch')"
        return text if is_sqlite else f"to_timestamp({second})"

    def iso(second: str) -> str:
        text = f"strftime('%Y-%m-%dT%H:%M:%SZ', {second}, 'unixepoch')"
        return (
            text
            if is_sqlite
            else f"to_char(to_timestamp({second}) at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
        )

    def day(second: str) -> str:
        text = f"strftime('%Y-%m-%d', {second}, 'unixepoch')"
        return text if is_sqlite else f"to_char(to_timestamp({second}) at time zone 'UTC', 'YYYY-MM-DD')"

    span_s = days * 86_400
    kind = f"case when n >= {calls - open_calls} then 3 when (n / 200 * 37 + n) % 100 < 80 then 0 when (n / 200 * 37 + n) % 100 < 98 then 1 else 2 end"
    one = f"""{series} r as (
      select n, {digits("n", 24)} id, {kind} kind, {now_s - span_s} + n * {span_s} / {calls} t, 10 + n * 31 % 890 length,
        case when n / 200 % 10 < 5 then 'default' when n / 200 % 10 < 8 then 'geneva' else 'zurich' end pbx,
        cast(100 + n * 7907 % {agents} as varchar(8)) ext,
        '4122' || {digits("n * 104729 % 200000", 7)} caller, '41225550' || {digits("n * 13 % 10", 3)} callee from s),
      w as (select *,
        case kind when 3 then 'open' when 2 then 'end_missed' else 'ended' end status,
        case kind when 0 then 'answered' when 1 then 'missed' else 'unknown' end outcome,
        case when kind < 2 then t + length end ended from r)"""
    ended = f"coalesce('\"' || {iso('ended')} || '\"', 'null')"
    document = f"""'{{"session_id":"' || id || '","pbx":"' || pbx || '","agent":{{"extension":"' || ext || '","email":"' || ext
      || '@company.com"}},"direction":"inbound","caller":"+' || caller || '","caller_e164":"+' || caller || '","callee":"+'
      || callee || '","callee_e164":"+' || callee || '","status":"' || status || '","outcome":"' || outcome
      || '","started_at":"' || {iso("t")} || '","started_at_source":"reported","ended_at":' || {ended}
      || ',"ended_at_source":' || case kind when 3 then 'null' when 2 then '"inferred"' else '"reported"' end
      || ',"ended_between":' || case kind when 2 then '{{"earliest":"' || {iso("t")} || '","latest":null}}' else 'null' end
      || ',"end_reason":' || case kind when 3 then 'null' when 2 then '"timeout"' else '"released"' end
      || ',"duration_s":' || case kind when 0 then cast(length as varchar(8)) else 'null' end
      || ',"span_s":' || case when kind < 2 then cast(length as varchar(8)) else 'null' end
      || ',"recording_url":' || case kind when 0 then '"https://pbx.company.com/recordings/12345.wav"' else 'null' end
      || ',"call_id":"' || id || '","linked_session_id":null,"first_received_at":"' || {iso("t + 1")} || '","revision":2}}'"""
    return f"""insert into calls (session_id, pbx, extension, email, direction, status, outcome, revision,
        first_received_at, began_at, closed_at, duration_s, day, linked_session_id, caller_digits, callee_digits,
        caller_key, callee_key, partition, document) {one}
      select id, pbx, ext, ext || '@company.com', 'inbound', status, outcome, 2, {stamp("t + 1")}, {stamp("t")},
        case when kind = 3 then null else {stamp("t + length")} end, case kind when 0 then length end, {day("t")}, null,
        caller, callee, substr(caller, length(caller) - 6), substr(callee, length(callee) - 6),
        case pbx when 'default' then 0 when 'geneva' then 1 else 2 end, {document} from w"""
