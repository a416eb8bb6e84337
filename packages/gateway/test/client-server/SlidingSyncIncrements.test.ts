/**
 * The increments of a connection of sliding sync add up to what a new connection gets, for random sequences of changes.
 */
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import * as fc from "fast-check"
import { as, gateway, inPath, register, sendText, type TestUser } from "../TestGateway.ts"
import { type Answer, enabled, type Room, sync } from "./SlidingSyncClient.ts"

/**
 * Lists with narrow and wide windows and with every kind of filter. No room has the tag `unused`: a new value makes the filters new
 * for the server, which then has no cached result for them.
 */
const request = (conn_id: string, isWide: boolean, unused: string) => {
  const list = (
    last: number,
    { not_tags = [], ...filters }: { not_tags?: Array<string>; [name: string]: unknown } = {}
  ) => ({
    ranges: [[0, last]],
    timeline_limit: 1,
    required_state: [["m.room.name", ""]],
    filters: { ...filters, not_tags: [...not_tags, unused] }
  })
  return {
    conn_id,
    lists: {
      recent: list(isWide ? 3 : 1),
      all: list(99, { not_room_types: ["m.space"] }),
      open: list(1, { is_encrypted: false }),
      secret: list(99, { is_encrypted: true }),
      direct: list(99, { is_dm: true }),
      favourites: list(99, { tags: ["m.favourite"] }),
      rest: list(2, { not_tags: ["m.favourite"], is_invited: false })
    },
    extensions: { account_data: enabled, receipts: enabled, typing: enabled }
  }
}

/** The state of a room at a client: the fields that both kinds of answers have. */
interface RoomView {
  readonly membership: string
  readonly name: unknown
  readonly last: string | undefined
  readonly joined: number | undefined
  readonly unread: number | undefined
}

const hasLeft = ({ membership }: Room): boolean => membership === "leave" || membership === "ban"

/** Former members get no number of members: their clients keep the last one. */
const viewOf = (room: Room, before?: RoomView): RoomView => ({
  membership: room.membership,
  name: room.name === undefined && room.initial !== true ? before?.name : room.name,
  last: room.timeline?.at(-1)?.event_id ?? (room.initial === true ? undefined : before?.last),
  joined: hasLeft(room) ? undefined : (room.joined_count ?? (room.initial === true ? undefined : before?.joined)),
  unread: room.notification_count
})

/** Applies an answer to the rooms of a client. */
const applyAnswer = (rooms: Map<string, RoomView>, answer: Answer) => {
  for (const [roomId, room] of Object.entries(answer.rooms)) rooms.set(roomId, viewOf(room, rooms.get(roomId)))
}

const accountData = (user: TestUser, type: string, content: object) =>
  as(user)("PUT", `/v3/user/${inPath(user.id)}/account_data/${type}`, content)

const createRoom = (user: TestUser, options: object) =>
  Effect.map(as(user)("POST", "/v3/createRoom", options), ({ body }) => body.room_id as unknown as string)

/** The changes. `number` selects the room. Carol only invites, so that ignoring her hides invitations alone. */
const changes = (alice: TestUser, bob: TestUser, carol: TestUser, rooms: Array<string>) => {
  const chosen = (number: number) => rooms[number % rooms.length]!
  // Alice or Bob has the power to do it.
  const state = (number: number, type: string, content: object) =>
    Effect.forEach([alice, bob], (user) =>
      as(user)("PUT", `/v3/rooms/${inPath(chosen(number))}/state/${type}`, content)
    )
  const encryption = { algorithm: "m.megolm.v1.aes-sha2" }
  return [
    (number: number) => sendText(alice, chosen(number), `from alice ${number}`),
    (number: number) => sendText(bob, chosen(number), `from bob ${number}`),
    (number: number) => state(number, "m.room.name", { name: `named ${number}` }),
    (number: number) => state(number, "m.room.encryption", encryption),
    (number: number) =>
      as(alice)("PUT", `/v3/user/${inPath(alice.id)}/rooms/${inPath(chosen(number))}/tags/m.favourite`, {}),
    (number: number) =>
      as(alice)("DELETE", `/v3/user/${inPath(alice.id)}/rooms/${inPath(chosen(number))}/tags/m.favourite`),
    (number: number) => accountData(alice, "m.direct", { [bob.id]: [chosen(number)] }),
    (number: number) => as(alice)("POST", `/v3/rooms/${inPath(chosen(number))}/leave`, {}),
    (number: number) => as(alice)("POST", `/v3/rooms/${inPath(chosen(number))}/join`, {}),
    (number: number) => as(bob)("POST", `/v3/rooms/${inPath(chosen(number))}/kick`, { user_id: alice.id }),
    (number: number) => as(bob)("POST", `/v3/rooms/${inPath(chosen(number))}/invite`, { user_id: alice.id }),
    (number: number) =>
      accountData(alice, "m.ignored_user_list", { ignored_users: number % 2 === 0 ? { [carol.id]: {} } : {} }),
    () =>
      Effect.map(createRoom(carol, { name: "invited", invite: [alice.id] }), (room) => {
        rooms.push(room)
      }),
    (number: number) =>
      Effect.map(createRoom(alice, { preset: number % 2 === 0 ? "public_chat" : "private_chat" }), (room) => {
        rooms.push(room)
      })
  ] as const
}

const changeCount = 14

/** Each change in three rooms. */
const allSteps = Array.from({ length: changeCount * 3 }, (_, index) => [index % changeCount, index % 5] as const)

/** The steps in any order. */
const sequence = fc.shuffledSubarray(allSteps, { minLength: allSteps.length })

layer(gateway, { excludeTestServices: true })("increments of sliding sync", (it) => {
  it.effect("add up to what a new connection gets", () =>
    Effect.gen(function* () {
      const sequences = fc.sample(sequence, { numRuns: 2, seed: 13 })
      for (const [index, steps] of sequences.entries()) {
        const alice = yield* register(`increments-alice${index}`)
        const bob = yield* register(`increments-bob${index}`)
        const rooms: Array<string> = []
        for (let number = 0; number < 6; number++) {
          const room = yield* createRoom(bob, {
            preset: "public_chat",
            power_level_content_override: { state_default: 0 }
          })
          yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/join`, {})
          rooms.push(room)
        }
        const carol = yield* register(`increments-carol${index}`)
        const choices = changes(alice, bob, carol, rooms)
        assert.lengthOf(choices, changeCount)
        const client = new Map<string, RoomView>()
        let pos: string | undefined
        for (const [step, [choice, number]] of steps.entries()) {
          yield* choices[choice]!(number)
          const isWide = step % 10 === 9
          const answer = yield* sync(alice, request("follows", isWide, "unused"), pos)
          pos = answer.pos
          applyAnswer(client, answer)
          const fresh = yield* sync(alice, request("begins", isWide, `unused${step}`))
          const context = `sequence ${index}, step ${step}: change ${choice} in room ${number}`
          assert.deepStrictEqual(answer.lists, fresh.lists, context)
          for (const [roomId, room] of Object.entries(fresh.rooms)) {
            assert.deepStrictEqual(client.get(roomId), viewOf(room), `${context}: ${roomId}`)
          }
        }
      }
    })
  )
})
