"""Prints what Synapse makes of numbers in events: their canonical JSON, and signed PDUs that hold them. Run by recordNumberFixtures.ts."""

import hashlib
import json
import sys

import synapse  # noqa: F401
from canonicaljson import encode_canonical_json
from signedjson.key import decode_signing_key_base64
from synapse.api.room_versions import KNOWN_ROOM_VERSIONS
from synapse.crypto.event_signing import (
    check_event_content_hash,
    compute_content_hash,
    compute_event_signature,
)
from synapse.federation.federation_base import event_from_pdu_json
from synapse.util.json import json_decoder
from unpaddedbase64 import encode_base64

texts = """0 -0 1 -1 1.0 -1.0 0.0 -0.0 0.1 -50.57 4.35 1e2 1E2 1e-5 1E-7 0.0001 0.00001 100e-2 0.10000000000000001 123456789012345.67
9007199254740991 9007199254740992 9007199254740993 -9007199254740992 9007199254740992.0 9223372036854775807 9223372036854775808
-9223372036854775809 12345678901234567890 18446744073709551616 123456789012345678901234567890 1e15 1e16 1e17 1.5e16 1e21 1e22 1.5e300
1.7976931348623157e308 5e-324 2.2250738585072011e-308 1e400 -1e400""".split() + ["1" * 4300, "-" + "1" * 4300, "1" * 4301]

key = decode_signing_key_base64("ed25519", "numbers", "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1")


def pdu(version, changes):
    by_pairs = version in ("1", "2")
    out = {
        "room_id": "!numbers:synapse.test",
        "sender": "@alice:synapse.test",
        "origin_server_ts": 1,
        "depth": 5,
        "auth_events": [],
        "prev_events": [["$before:synapse.test", {}]] if by_pairs else ["$" + "A" * 43],
        "hashes": {},
        "signatures": {},
        **changes,
    }
    if by_pairs:
        out["event_id"] = "$numbers:synapse.test"
    return out


def canonical(text):
    """The canonical JSON of a number, or None where Synapse refuses it."""
    try:
        return encode_canonical_json(json_decoder.decode("[%s]" % text)).decode()[1:-1]
    except ValueError:
        return None


def is_accepted(version, text):
    body = json.dumps(pdu(version, {"type": "m.x", "content": {"number": None}})).replace("null", text)
    try:
        event_from_pdu_json(json_decoder.decode(body), KNOWN_ROOM_VERSIONS[version])
        return True
    except Exception:
        return False


def signed(version, changes):
    room_version = KNOWN_ROOM_VERSIONS[version]
    given = pdu(version, json_decoder.decode(changes))
    name, digest = compute_content_hash(given, hashlib.sha256)
    given["hashes"] = {name: encode_base64(digest)}
    given["signatures"] = compute_event_signature(room_version, given, "synapse.test", key)
    event = event_from_pdu_json(json_decoder.decode(json.dumps(given)), room_version)
    assert check_event_content_hash(event)
    return {"room_version": version, "event_id": event.event_id, "pdu": json.dumps(event.get_pdu_json())}


accepted = [text for text in texts if len(text) < 100 and is_accepted("5", text)]
contents = [
    '{"type": "org.example.numbers", "zone": 2.0, "content": {"list": [%s], "__proto__": {"deep": [[1.0]]}}}' % ", ".join(accepted),
    '{"type": "m.room.power_levels", "state_key": "", "content": {"users": {"@alice:synapse.test": 100.0, "@bob:synapse.test": 9007199254740993}, "ban": 50.0}}',
]

json.dump(
    {
        "implementation": "Synapse " + sys.argv[1],
        "verify_keys": {"ed25519:numbers": encode_base64(key.verify_key.encode())},
        "numbers": [
            {"text": t, "canonical": canonical(t), "loose": is_accepted("5", t), "strict": is_accepted("6", t)} for t in texts
        ],
        "events": [signed(version, changes) for version in ("1", "2", "3", "4", "5") for changes in contents],
    },
    sys.stdout,
    indent=1,
)
