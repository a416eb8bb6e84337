/**
 * A statement that fails at the node of an actor is answered as one that fails at the client's node, whether the request is traced or not.
 */
import { assert, it } from "@effect/vitest"
import { freePorts } from "@greenroom/store/testing/FreePort"
import { Effect } from "effect"
import { databaseAccess } from "../support/DatabaseAccess.ts"
import { type Scene, succeeded } from "../support/Scene.ts"
import { at, start } from "./support/Cluster.ts"

it.live(
  "a full disk is 503 wherever the user's actor runs, for traced requests too",
  () =>
    Effect.gen(function* () {
      // Nobody listens there: what is traced is lost, and the requests are not.
      const [collector] = yield* freePorts(1)
      const { databaseUrl, nodes } = yield* start(2, {
        nodeOptions: (node) => ({
          environment: {
            GREENROOM_TRACING_ENDPOINT: `http://127.0.0.1:${collector}`,
            GREENROOM_TRACING_RATIO: `${node}`
          }
        })
      })
      const users = yield* Effect.forEach(
        Array.from({ length: 16 }, (_, i) => `user${i}`),
        (nodes[0] as Scene).register,
        { concurrency: 4 }
      )
      const setNames = (node: Scene) =>
        Effect.forEach(users, (user) =>
          at(node, user).ask("PUT", `/profile/${encodeURIComponent(user.userId)}/displayname`, { displayname: "Name" })
        )
      for (const node of nodes) for (const answer of yield* setNames(node)) succeeded(answer)
      yield* databaseAccess(databaseUrl).refuse({ table: "profile_fields" })
      for (const node of nodes) {
        const statuses = (yield* setNames(node)).map(({ status }) => status)
        assert.deepStrictEqual(
          statuses,
          users.map(() => 503)
        )
      }
    }).pipe(Effect.scoped),
  120_000
)
