/**
 * A client that follows a connection of sliding sync has what a client that begins anew gets, whatever happened in between.
 */
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import * as fc from "fast-check"
import { as, gateway, inPath, register, say, type TestUser } from "../TestGateway.ts"
import { type Answer, enabled, type Room, sync } from "./SlidingSyncClient.ts"

/**
 * Windows of all rooms and of some, with filters by each thing that decides which rooms a list shows. No room has the tag
 * `unused`: another one makes the same filter another one for the server, which keeps nothing for it. The filters of both
 * requests are few enough to be kept.
 */
const request = (conn_id: string, turned: boolean, unused: string) => {
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
      recent: list(turned ? 3 : 1),
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

/** What a client shows of a room: the parts that both answers have. */
interface Shown {
  readonly membership: string
  readonly name: unknown
  readonly last: string | undefined
  readonly joined: number | undefined
  readonly unread: number | undefined
}

const shownOf = (room: Room, before?: Shown): Shown => ({
  membership: room.membership,
  name: room.name === undefined && room.initial !== true ? before?.name : room.name,
  last: room.timeline?.at(-1)?.event_id ?? (room.initial === true ? undefined : before?.last),
  joined: room.joined_count ?? (room.initial === true ? undefined : before?.joined),
  unread: room.notification_count
})

/** Adds an answer to the rooms of a client. */
const follow = (rooms: Map<string, Shown>, answer: Answer) => {
  for (const [roomId, room] of Object.entries(answer.rooms)) rooms.set(roomId, shownOf(room, rooms.get(roomId)))
}

const accountData = (user: TestUser, type: string, content: object) =>
  as(user)("PUT", `/v3/user/${inPath(user.id)}/account_data/${type}`, content)

const createRoom = (user: TestUser, options: object) =>
  Effect.map(as(user)("POST", "/v3/createRoom", options), ({ body }) => body.room_id as unknown as string)

/** The steps that a story is made of. `number` chooses the room. Nothing of carol but her invitations can be ignored. */
const steps = (alice: TestUser, bob: TestUser, carol: TestUser, rooms: Array<string>) => {
  const chosen = (number: number) => rooms[number % rooms.length]!
  // The room is alice's or bob's.
  const state = (number: number, type: string, content: object) =>
    Effect.forEach([alice, bob], (user) =>
      as(user)("PUT", `/v3/rooms/${inPath(chosen(number))}/state/${type}`, content)
    )
  const encryption = { algorithm: "m.megolm.v1.aes-sha2" }
  return [
    (number: number) => say(alice, chosen(number), `said ${number}`),
    (number: number) => say(bob, chosen(number), `heard ${number}`),
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

const stepCount = 14

/** Each step in three of the rooms, in any order. */
const allSteps = Array.from({ length: stepCount * 3 }, (_, index) => [index % stepCount, index % 5] as const)

const story = fc.shuffledSubarray(allSteps, { minLength: allSteps.length })

layer(gateway, { excludeTestServices: true })("increments of sliding sync", (it) => {
  it.effect("add up to what a new connection gets", () =>
    Effect.gen(function* () {
      const stories = fc.sample(story, { numRuns: 2, seed: 13 })
      for (const [index, told] of stories.entries()) {
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
        const choices = steps(alice, bob, carol, rooms)
        assert.lengthOf(choices, stepCount)
        const client = new Map<string, Shown>()
        let pos: string | undefined
        for (const [turn, [choice, number]] of told.entries()) {
          yield* choices[choice]!(number)
          const turned = turn % 10 === 9
          const answer = yield* sync(alice, request("follows", turned, "unused"), pos)
          pos = answer.pos
          follow(client, answer)
          const fresh = yield* sync(alice, request("begins", turned, `unused${turn}`))
          const what = `story ${index}, step ${turn}: ${choice} of ${number}`
          assert.deepStrictEqual(answer.lists, fresh.lists, what)
          for (const [roomId, room] of Object.entries(fresh.rooms)) {
            assert.deepStrictEqual(client.get(roomId), shownOf(room), `${what}: ${roomId}`)
          }
        }
      }
    })
  )
})
