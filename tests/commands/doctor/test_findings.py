from commands.doctor.findings import Finding, note, ok, problem


def test_what_stops_work_says_what_to_do():
    assert problem("store", "read-only", "mend it") == Finding("store", "problem", "read-only", "mend it")
    assert note("data", "odd") == Finding("data", "note", "odd", "")
    assert ok("data", "fine").todo == ""
