/** Tokens of pages: mautrix-go, matrix-bot-sdk and libQuotient send them empty where they have none. */
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { as, createRoom, gateway, inPath, register, sendText } from "../TestGateway.ts"

layer(gateway, { excludeTestServices: true })("an empty token in a query", (it) => {
  it.effect("counts as absent at every endpoint with pages", () =>
    Effect.gen(function* () {
      const [user, other] = [yield* register("paging"), yield* register("paged")]
      const room = inPath(yield* createRoom(user))
      const event = inPath(yield* sendText(user, decodeURIComponent(room) as never, "one"))
      const paths = [
        `/v1/rooms/${room}/relations/${event}?from=&to=`,
        `/v1/rooms/${room}/threads?from=`,
        `/v1/rooms/${room}/hierarchy?from=`,
        `/v1/mutual_rooms?user_id=${inPath(other.id)}&from=`,
        `/v3/rooms/${room}/messages?dir=f&from=&to=`,
        `/v3/rooms/${room}/members?at=`,
        "/v3/notifications?from=",
        "/v3/publicRooms?since=",
        "/v3/sync?timeout=0&since="
      ]
      for (const path of paths) {
        const { status, text } = yield* as(user)("GET", path)
        assert.strictEqual(status, 200, `${path}: ${text}`)
      }
      const criteria = { search_categories: { room_events: { search_term: "one" } } }
      const { status, text } = yield* as(user)("POST", "/v3/search?next_batch=", criteria)
      assert.strictEqual(status, 200, text)
    })
  )
})
