from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.vedfolnir.stack.plugins.filter.openpgp_fingerprints import (
    FilterModule,
    openpgp_fingerprints,
)

# Made for these tests with GnuPG 2.2, which names the fingerprints.
ED25519 = """\
-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawZG3xYJKwYBBAHaRw8BAQdAnxnVa/8oGhhiyUL/KCfVtX964i3UR4mkmazL
j43Wysu0InRlc3QtZWQyNTUxOSA8ZWQyNTUxOUBleGFtcGxlLm9yZz6IkAQTFggA
OBYhBF4QjUr3VEGDJafKtA2qJWAfm278BQJrBkbfAhsDBQsJCAcCBhUKCQgLAgQW
AgMBAh4BAheAAAoJEA2qJWAfm27821UBAPP0F3dg6jwhHgEUjtnuZsqbmNAtHvYB
7T6lL0kjqRcyAP0b+H7QkOlNWTW3+KF2/CwYo0LSYO/3rqwLAbqy5QSPBA==
=FMmy
-----END PGP PUBLIC KEY BLOCK-----
"""
ED25519_IS = "5E108D4AF754418325A7CAB40DAA25601F9B6EFC"
RSA = """\
-----BEGIN PGP PUBLIC KEY BLOCK-----

mQGNBGsGRuABDADGDpxuCYIePmuyHNYk2et2irbyIEUlJ6e4gvuO+D3uEsp5rvjF
5/aHfvXxfFZjdqcPVBxWQt1L+WfQv42YcswZ1W2F0CjO5tWwQvqKro/ME+8kd48h
vAkDCqrO/bvMULsrWN/DYqrO6T2zBh0dBZaNHRPqPgmZLtvhsReGftcUBetE8QAo
zRmE/7kxiLsD2EyIDjmmauorOuOvnrPqLCXgzubihcOXfhyDQCUL5eSLzLl1txsg
1JYFLWdN0Cm/B7eKMOH26EBOywS3oA3ZMOqbyGiIZvWvxx91NgcHsUl9TE+tukcx
eieZv8hsTeV8EQrKGknNbogvFWIfSXeSBeDP9Qne7LUlHfd/zvklPsbDwTIC/EvT
DbQmVgq/MgJwwdIgQbL5aJP7jmvJ+NX+T9LtAja8rIFK8X8E7C+uUb2YOG6Xf4U0
FWtY5Dxoo/8gkUoY7lJhfoY/KW9tFFNnqE5jWcgHmg0z1Y3XaM1lmO2uhBNzQjy5
GfWVip5PQGIu6hUAEQEAAbQidGVzdC1yc2EzMDcyIDxyc2EzMDcyQGV4YW1wbGUu
b3JnPokBzgQTAQoAOBYhBPGm67JSkwiQibDASqXULv/GQlW8BQJrBkbgAhsDBQsJ
CAcCBhUKCQgLAgQWAgMBAh4BAheAAAoJEKXULv/GQlW8x84L/RKsnDSZaZn5zp6P
gQcReRs2QXEGp0K+2masNDI4jckswqDnPK6n+4oBiFN/Vv7aFRMrxBGSGxu46Mhh
07t2i3OwzyrOo8TgadzoF7FYRm8TQz2AMw30hw8bvLFODazDstN3NIJFhZf685dg
C8p9/AJZc31Ocul76N9PccPA7U20xQPgveWoxI0HPf6asuEUoLJpk0+SOQWIjxwE
Mt3XY5QKwiVlR7oH0EblgvgD/gP4LgA7Igikc+h9d5RjwIYnKa5AVyu8Y9EsP3wR
cpr+9XCTGtM/gOGOI6JKIuqvrbeYLoNiT4hIa5msvK84ETw84r0+jbsnUlCPwN43
y8Y7UwPRhCY4i6wgZb3GAAmhKBO3MqdWeDCS45y4xqGO+iyaHuqcx1e8kZqNIvCa
IRuJn5vpkQ2uZwVvSQKz80GaIbxqlZ8ehFlPhsc8hoYOdanxRlwP9vhIcRuTXbcd
XUELgVCQg9XB0PY9fgNlz0hVpfFvrXfAQxnASePjVs+gJHWJ8Q==
=88K4
-----END PGP PUBLIC KEY BLOCK-----
"""
RSA_IS = "F1A6EBB25293089089B0C04AA5D42EFFC64255BC"
# From RFC 9580, appendix A.3: packets of the present format, and with a subkey.
VERSION_6 = """\
-----BEGIN PGP PUBLIC KEY BLOCK-----

xioGY4d/4xsAAAAg+U2nu0jWCmHlZ3BqZYfQMxmZu52JGggkLq2EVD34laPCsQYf
GwoAAABCBYJjh3/jAwsJBwUVCg4IDAIWAAKbAwIeCSIhBssYbE8GCaaX5NUt+mxy
KwwfHifBilZwj2Ul7Ce62azJBScJAgcCAAAAAK0oIBA+LX0ifsDm185Ecds2v8lw
gyU2kCcUmKfvBXbAf6rhRYWzuQOwEn7E/aLwIwRaLsdry0+VcallHhSu4RN6HWaE
QsiPlR4zxP/TP7mhfVEe7XWPxtnMUMtf15OyA51YBM4qBmOHf+MZAAAAIIaTJINn
+eUBXbki+PSAld2nhJh/LVmFsS+60WyvXkQ1wpsGGBsKAAAALAWCY4d/4wKbDCIh
BssYbE8GCaaX5NUt+mxyKwwfHifBilZwj2Ul7Ce62azJAAAAAAQBIKbpGG2dWTX8
j+VjFM21J0hqWlEg+bdiojWnKfA5AQpWUWtnNwDEM0g12vYxoWM8Y81W+bHBw805
I8kWVkXU6vFOi+HWvv/ira7ofJu16NnoUkhclkUrk0mXubZvyl4GBg==
-----END PGP PUBLIC KEY BLOCK-----
"""
VERSION_6_IS = "CB186C4F0609A697E4D52DFA6C722B0C1F1E27C18A56708F6525EC27BAD9ACC9"


@pytest.mark.parametrize(
    ("text", "fingerprints"),
    [
        (ED25519, [ED25519_IS]),
        (RSA, [RSA_IS]),
        (VERSION_6, [VERSION_6_IS]),
        (ED25519.replace("\n", "\r\n"), [ED25519_IS]),
        (ED25519.replace("BLOCK-----\n", "BLOCK-----\nComment: one\n", 1), [ED25519_IS]),
        (f"A remark.\n{RSA}\nAnother.\n{ED25519}", [RSA_IS, ED25519_IS]),
    ],
)
def test_every_primary_key_is_found(text: str, fingerprints: list[str]) -> None:
    assert FilterModule().filters()["openpgp_fingerprints"](text) == fingerprints


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>Not found</html>",
        ED25519.replace("PUBLIC", "PRIVATE"),
        ED25519 + RSA.replace("BLOCK", "BLOCKS"),
        ED25519.replace("mDMEawZG", "mDMDawZG"),  # a key of version 3
        ED25519.replace("mDMEawZG", "mDQEawZG"),  # a packet longer than it is
        ED25519.replace("j43Wysu0", ""),  # cut
        ED25519.replace("mDME", "ADME"),  # no packet
        VERSION_6.replace("xioG", "xuAG"),  # a partial length
        VERSION_6.replace("xioG", "xv8G"),  # a length of four octets beyond the end
        ED25519.replace("mDME", "mzME"),  # an indeterminate length
    ],
)
def test_what_cannot_be_read_to_its_end_has_no_key(text: str) -> None:
    assert openpgp_fingerprints(text) == []


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="expects a text, got NoneType"):
        openpgp_fingerprints(None)
