from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.vedfolnir.stack.plugins.filter.monitoring import FilterModule

EMAIL = {
    "email_to": ["a@example.org", "b@example.org"],
    "email_from": "stack@example.org",
    "email_server": "mail.example.org:587",
}


def config(**options: t.Any) -> dict[str, t.Any]:
    found: dict[str, t.Any] = FilterModule().filters()["alertmanager_config"](options)
    return found


def receiver(found: dict[str, t.Any], name: str) -> dict[str, t.Any]:
    by_name: dict[str, dict[str, t.Any]] = {entry["name"]: entry for entry in found["receivers"]}
    return by_name[name]


def test_without_options_nobody_is_told() -> None:
    found = config()
    assert receiver(found, "operators") == {"name": "operators"}
    assert receiver(found, "watchdog") == {"name": "watchdog"}
    assert "time_intervals" not in found


def test_every_receiver_a_route_names_exists() -> None:
    found = config(alerts_off=["A"], quiet={"start": "22:00", "end": "07:00"}, webhook=True)
    names = {entry["name"] for entry in found["receivers"]}
    routes = found["route"]["routes"]
    assert {route["receiver"] for route in routes} | {found["route"]["receiver"]} <= names


def test_mail_with_and_without_a_login() -> None:
    plain = receiver(config(**EMAIL), "operators")["email_configs"]
    assert [entry["to"] for entry in plain] == EMAIL["email_to"]
    assert all(entry["require_tls"] and "auth_username" not in entry for entry in plain)
    (first, _second) = receiver(config(**EMAIL, email_username="me"), "operators")["email_configs"]
    assert first["auth_username"] == "me"
    assert first["auth_password_file"] == "/run/secrets/smtp_password"


def test_the_webhook_gets_alerts_and_a_sign_of_life() -> None:
    found = config(webhook=True, matrix=True)
    files = [entry["url_file"] for entry in receiver(found, "operators")["webhook_configs"]]
    assert files == ["/run/secrets/webhook_url", "/run/secrets/matrix_url"]
    (life,) = receiver(found, "watchdog")["webhook_configs"]
    assert life["url_file"] == "/run/secrets/webhook_url"


def test_alerts_that_are_off_go_to_nobody_before_anything_else() -> None:
    first = config(alerts_off=["SlowBurnSlow", "HostCpuBusy"])["route"]["routes"][0]
    assert first == {"receiver": "nobody", "matchers": ['alertname=~"HostCpuBusy|SlowBurnSlow"']}


@pytest.mark.parametrize(
    ("start", "end", "times"),
    [
        ("08:00", "12:30", [("08:00", "12:30")]),
        ("22:00", "07:00", [("22:00", "24:00"), ("00:00", "07:00")]),
        ("22:00", "00:00", [("22:00", "24:00")]),
    ],
)
def test_quiet_hours_go_past_midnight(start: str, end: str, times: list[tuple[str, str]]) -> None:
    found = config(quiet={"start": start, "end": end, "zone": "Europe/Berlin"})
    (interval,) = found["time_intervals"][0]["time_intervals"]
    assert [(one["start_time"], one["end_time"]) for one in interval["times"]] == times
    assert interval["location"] == "Europe/Berlin"
    assert found["route"]["routes"][-1]["mute_time_intervals"] == ["quiet"]


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("22", "07:00", "quiet hours: '22' is not a time such as 22:00"),
        ("22:00", "24:30", "quiet hours: '24:30' is not a time such as 22:00"),
        ("07:00", "07:00", "quiet hours: start and end are the same"),
    ],
)
def test_hours_that_are_none(start: str, end: str, message: str) -> None:
    with pytest.raises(AnsibleFilterError) as error:
        config(quiet={"start": start, "end": end})
    assert str(error.value) == f"alertmanager_config: {message}"
