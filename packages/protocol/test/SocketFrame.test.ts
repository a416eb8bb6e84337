import { assert, describe, it } from "@effect/vitest"
import type { EventId, RoomId } from "@greenroom/protocol/Identifiers"
import { Forbidden, toErrorBody } from "@greenroom/protocol/MatrixError"
import * as MessagePack from "@greenroom/protocol/MessagePack"
import {
  closeCodes,
  decodeRequest,
  decodeServerFrame,
  encodeChunk,
  encodeError,
  encodeRequest,
  encodeResult,
  maxRequestBytes,
  type RefusedFrame,
  type SocketRequest,
  type Subprotocol,
  subprotocols
} from "@greenroom/protocol/SocketFrame"
import { socketMethods } from "@greenroom/protocol/SocketMethod"
import { Result } from "effect"

const roomId = "!pond:example.org" as RoomId

const raw = (subprotocol: Subprotocol, frame: unknown) =>
  subprotocol === "m.json" ? JSON.stringify(frame) : MessagePack.encode(frame)

const refused = (subprotocol: Subprotocol, frame: unknown): RefusedFrame => {
  const result = decodeRequest(subprotocol, raw(subprotocol, frame))
  assert.isTrue(Result.isFailure(result), JSON.stringify(frame))
  return Result.isFailure(result) ? result.failure : assert.fail()
}

const requests: ReadonlyArray<SocketRequest> = [
  {
    id: 1,
    method: "send",
    params: { room_id: roomId, type: "m.room.message", content: { msgtype: "m.text", body: "🐟" }, txn_id: "t1" }
  },
  { id: "a", method: "state", params: { room_id: roomId } },
  {
    id: "b",
    method: "state",
    params: { room_id: roomId, type: "m.room.topic", state_key: "", content: { topic: "" } }
  },
  { id: 2, method: "join", params: { room_id: "#pond:example.org" as RoomId } },
  { id: 3, method: "leave", params: { room_id: roomId } },
  { id: 4, method: "typing", params: { room_id: roomId, typing: true, timeout: 5000 } },
  { id: 5, method: "presence", params: { state: "free_for_chat", status_msg: null } },
  { id: 6, method: "messages", params: { room_id: roomId, from: "END", limit: 5, dir: "b" } },
  { id: 7, method: "initialSync", params: { limit: 0 } },
  { id: 8, method: "redact", params: { room_id: roomId, event_id: "$1:example.org" as EventId } },
  { id: 9, method: "profile", params: { field: "location", value: { city: "London" }, visibility: "rooms" } },
  { id: 10, method: "createRoom", params: { name: "Pond", visibility: "public" } },
  { id: Number.MAX_SAFE_INTEGER, method: "ping", params: {} }
]

for (const subprotocol of subprotocols) {
  describe(`requests by ${subprotocol}`, () => {
    it("requests are decoded as they were encoded", () => {
      for (const request of requests) {
        const result = decodeRequest(subprotocol, encodeRequest(subprotocol, request))
        assert.deepStrictEqual(Result.getOrThrow(result), request)
      }
    })

    it("requests may omit empty params", () => {
      const result = decodeRequest(subprotocol, raw(subprotocol, { id: 1, method: "ping" }))
      assert.deepStrictEqual(Result.getOrThrow(result), { id: 1, method: "ping", params: {} })
    })

    it("requests keep every key of a content", () => {
      const content = { msgtype: "x", deep: [{ kept: [null, false, -1] }] }
      const params = { room_id: roomId, type: "org.example.any", content }
      const result = decodeRequest(subprotocol, raw(subprotocol, { id: 1, method: "send", params }))
      assert.deepStrictEqual(Result.getOrThrow(result).params, params)
    })

    it("refused requests have their ID and the wrong key in the error", () => {
      const cases: ReadonlyArray<readonly [frame: unknown, id: unknown, errcode: string, error: RegExp]> = [
        [[], null, "M_BAD_JSON", /not a JSON object/],
        [{ method: "ping" }, null, "M_BAD_JSON", /^id: /],
        [{ id: {}, method: "ping" }, null, "M_BAD_JSON", /^id: /],
        [{ id: 1.5, method: "ping" }, null, "M_BAD_JSON", /^id: /],
        [{ id: "x".repeat(256), method: "ping" }, null, "M_BAD_JSON", /^id: /],
        [{ id: 1 }, 1, "M_BAD_JSON", /^method: /],
        [{ id: 1, method: "dance" }, 1, "M_UNRECOGNIZED", /^method: /],
        [{ id: 1, method: "toString" }, 1, "M_UNRECOGNIZED", /^method: /],
        [{ id: 1, method: "leave", params: [] }, 1, "M_BAD_JSON", /^params: expected an object/],
        [{ id: 1, method: "leave" }, 1, "M_BAD_JSON", /^params\.room_id: missing key/],
        [
          { id: "s", method: "leave", params: { room_id: "pond" } },
          "s",
          "M_BAD_JSON",
          /^params\.room_id: expected a room ID/
        ],
        [
          { id: 1, method: "send", params: { room_id: roomId, type: "t", content: 1 } },
          1,
          "M_BAD_JSON",
          /^params\.content: /
        ],
        [
          { id: 1, method: "messages", params: { room_id: roomId, limit: [] } },
          1,
          "M_BAD_PAGINATION",
          /^params\.limit: /
        ]
      ]
      for (const [frame, id, errcode, error] of cases) {
        const failure = refused(subprotocol, frame)
        assert.deepStrictEqual([failure.id, failure.error._tag], [id, errcode], JSON.stringify(frame))
        assert.match(failure.error.error, error)
      }
    })

    it("clients decode the answers to requests", () => {
      const result = decodeServerFrame(subprotocol, encodeResult(subprotocol, "7", { event_id: "$1:example.org" }))
      assert.deepStrictEqual(Result.getOrThrow(result), { id: "7", result: { event_id: "$1:example.org" } })
      const error = toErrorBody(new Forbidden({ error: "Not in this room" }))
      const failed = decodeServerFrame(subprotocol, encodeError(subprotocol, null, error))
      assert.deepStrictEqual(Result.getOrThrow(failed), { id: null, error })
    })
  })

  describe(`the event stream by ${subprotocol}`, () => {
    it("chunks of events are decoded as they were encoded", () => {
      const events = [{ event_id: "$1:example.org", ts: 1_404_838_188_000, content: { body: 'quo"te\u2028' } }]
      for (const length of [0, 1, 15, 16, 0xffff, 0x10000]) {
        const chunk = Array.from({ length }, (_, index) => (length > 16 ? index : events[0]))
        const packed = MessagePack.joinList(chunk.map((event) => [MessagePack.encode(event)]))
        const data = encodeChunk(subprotocol, { json: JSON.stringify(chunk), packed, start: 's"1', end: "s2" })
        const frame = Result.getOrThrow(decodeServerFrame(subprotocol, data))
        assert.deepStrictEqual(frame, { chunk, start: 's"1', end: "s2" } as never)
      }
    })

    it("other frames are not decoded as chunks", () => {
      for (const frame of [{}, [], null, { chunk: 1, start: "a", end: "b" }, { id: 1 }, { id: null, result: 1 }]) {
        assert.isTrue(Result.isFailure(decodeServerFrame(subprotocol, raw(subprotocol, frame))), JSON.stringify(frame))
      }
    })
  })
}

describe("invalid frames", () => {
  it("invalid frames are refused without an exception", () => {
    const tag = (subprotocol: Subprotocol, data: string | Uint8Array) => {
      const result = decodeRequest(subprotocol, data)
      return Result.isFailure(result) ? result.failure.error._tag : "accepted"
    }
    assert.strictEqual(tag("m.json", "{"), "M_NOT_JSON")
    assert.strictEqual(tag("m.json", ""), "M_NOT_JSON")
    assert.strictEqual(tag("m.json", new Uint8Array(4)), "M_NOT_JSON")
    assert.strictEqual(tag("m.msgpack", "{}"), "M_NOT_JSON")
    assert.strictEqual(tag("m.msgpack", new Uint8Array(0)), "M_NOT_JSON")
    assert.strictEqual(tag("m.json", " ".repeat(maxRequestBytes + 1)), "M_TOO_LARGE")
    assert.strictEqual(tag("m.msgpack", new Uint8Array(maxRequestBytes + 1)), "M_TOO_LARGE")
    const many = { id: 1, method: "ping", params: { many: Array.from({ length: 70_000 }, () => 0) } }
    assert.strictEqual(tag("m.json", JSON.stringify(many)), "M_TOO_LARGE")
    assert.strictEqual(tag("m.msgpack", MessagePack.encode(many)), "M_TOO_LARGE")
  })
})

describe("the socket", () => {
  it("the socket has the methods of the client API", () => {
    assert.containsAllKeys(socketMethods, [
      "send",
      "state",
      "join",
      "leave",
      "invite",
      "typing",
      "presence",
      "messages",
      "initialSync",
      "ping"
    ])
  })

  it("the close codes are codes that a server may use", () => {
    const codes = Object.values(closeCodes)
    assert.strictEqual(new Set(codes).size, codes.length)
    for (const code of codes) assert.isTrue((code >= 1001 && code <= 1011) || (code >= 4000 && code <= 4999))
  })
})
