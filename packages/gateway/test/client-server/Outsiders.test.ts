/**
 * Users who are not in a private room get no information about it, not even whether it exists.
 */
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import {
  ask as askDraft,
  askToday,
  createRoom,
  gateway,
  inPath,
  register,
  sendText,
  type TestUser
} from "../TestGateway.ts"

type Ask = (method: string, path: string, json?: unknown) => ReturnType<typeof askToday>

/** The requests about a room: those of both generations of the API, and those of today's alone. */
const requests = (member: TestUser, outsider: TestUser) => {
  const target = { user_id: member.id }
  const both: ReadonlyArray<readonly [string, string, unknown?]> = [
    ["GET", "state"],
    ["GET", "state/m.room.name"],
    ["GET", "members"],
    ["GET", "messages?dir=b"],
    ["GET", "initialSync"],
    ["PUT", "send/m.room.message/1", { msgtype: "m.text", body: "x" }],
    ["PUT", "state/m.room.name", { name: "x" }],
    ["PUT", `state/m.room.member/${inPath(outsider.id)}`, { membership: "join" }],
    ["PUT", `state/m.room.member/${inPath(outsider.id)}`, { membership: "leave" }],
    ["PUT", `state/m.room.member/${inPath(outsider.id)}`, { membership: "knock" }],
    ["PUT", `state/m.room.member/${inPath(member.id)}`, { membership: "invite" }],
    ["POST", "join", {}],
    ["POST", "leave", {}],
    ["POST", "invite", target],
    ["POST", "kick", target],
    ["POST", "ban", target],
    ["POST", "unban", target],
    ["PUT", `typing/${inPath(outsider.id)}`, { typing: true, timeout: 1000 }],
    ["PUT", "redact/$x:green.test/1", {}]
  ]
  const today: ReadonlyArray<readonly [string, string, unknown?]> = [
    ["GET", "event/$x:green.test"],
    ["GET", "context/$x:green.test"],
    ["GET", "joined_members"],
    ["GET", "aliases"],
    ["POST", "receipt/m.read/$x:green.test", {}],
    ["POST", "upgrade", { new_version: "11" }],
    ["POST", "forget", {}],
    ["POST", "report", { reason: "x" }],
    ["POST", "report/$x:green.test", { reason: "x" }]
  ]
  const otherPaths = (room: string): ReadonlyArray<readonly [string, string, unknown?]> => [
    ["POST", `/v3/knock/${room}`, {}],
    ["POST", `/v3/join/${room}`, {}],
    ["PUT", "/v3/directory/room/%23x:green.test", { room_id: decodeURIComponent(room) }],
    ["GET", `/v3/directory/list/room/${room}`],
    ["PUT", `/v3/directory/list/room/${room}`, { visibility: "public" }],
    ["GET", `/v1/rooms/${room}/timestamp_to_event?ts=1&dir=f`],
    ["GET", `/v1/rooms/${room}/hierarchy`],
    ["GET", `/v1/rooms/${room}/relations/$x:green.test`],
    ["GET", `/v1/rooms/${room}/threads`],
    ["GET", `/v1/room_summary/${room}`]
  ]
  return { both, today, otherPaths }
}

/** The answer to a request about a room, without the ID of the room. */
const answerTo = (ask: Ask, room: string, [method, path, json]: readonly [string, string, unknown?]) =>
  Effect.map(
    ask(method, path, json),
    ({ body, status }) => `${status} ${JSON.stringify(body).replaceAll(room, "ROOM")}`
  )

layer(gateway, { excludeTestServices: true })("users outside a private room", (it) => {
  for (const [version, unknown] of [
    ["11", "!no-such-room-at-all:green.test"],
    ["12", `!${"A".repeat(43)}`],
    ["1-draft", "!no-such-room-at-all:green.test"]
  ] as const) {
    it.effect(`get the same answers as for an unknown room, in version ${version}`, () =>
      Effect.gen(function* () {
        const alice = yield* register(`outside-alice-${version}`)
        const eve = yield* register(`outside-eve-${version}`)
        const known = yield* createRoom(alice, { visibility: "private", room_version: version })
        const draft: Ask = (method, path, json) => askDraft(method, path, { token: eve.token, json })
        const today: Ask = (method, path, json) => askToday(method, path, { token: eve.token, json })
        const about = requests(alice, eve)
        const within =
          (prefix: string, ask: Ask): Ask =>
          (method, path, json) =>
            ask(method, `${prefix}${path}`, json)
        const answers = (room: string) =>
          Effect.gen(function* () {
            const path = inPath(room)
            const all: Array<readonly [string, string]> = []
            for (const entry of [...about.both, ...about.today]) {
              all.push([
                `today ${entry[0]} ${entry[1]}`,
                yield* answerTo(within(`/v3/rooms/${path}/`, today), room, entry)
              ])
            }
            for (const entry of about.both) {
              all.push([
                `draft ${entry[0]} ${entry[1]}`,
                yield* answerTo(within(`/rooms/${path}/`, draft), room, entry)
              ])
            }
            for (const entry of about.otherPaths(path)) {
              all.push([`${entry[0]} ${entry[1].replaceAll(path, "ROOM")}`, yield* answerTo(today, room, entry)])
            }
            return all
          })
        const ofKnown = yield* answers(known)
        assert.deepStrictEqual(ofKnown, yield* answers(unknown))
        // Only a report of the room is accepted.
        for (const [request, answer] of ofKnown) {
          assert.match(answer, request === "today POST report" ? /^200 / : /^4/, request)
        }
      })
    )
  }

  it.effect("find none of its events through a room of their own", () =>
    Effect.gen(function* () {
      const [alice, eve] = [yield* register("outside-alice"), yield* register("outside-eve")]
      const secret = inPath(yield* sendText(alice, yield* createRoom(alice, { visibility: "private" }), "secret"))
      const own = inPath(yield* createRoom(eve))
      for (const [method, path] of [
        ["GET", `/v3/rooms/${own}/event/${secret}`],
        ["GET", `/v3/rooms/${own}/context/${secret}`],
        ["GET", `/v1/rooms/${own}/relations/${secret}`],
        ["POST", `/v3/rooms/${own}/report/${secret}`]
      ] as const) {
        const json = method === "POST" ? { reason: "x" } : undefined
        const { body, status } = yield* askToday(method, path, { token: eve.token, json })
        assert.deepStrictEqual([status, body.errcode], [404, "M_NOT_FOUND"], path)
      }
    })
  )
})
