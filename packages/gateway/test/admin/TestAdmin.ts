/** An administrator, and requests of one. */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { AccountStore } from "@greenroom/store/AccountStore"
import { Effect, Schedule } from "effect"
import { type Answer, ask, register, type TestUser } from "../TestGateway.ts"

export const registerAdmin = Effect.fnUntraced(function* (name: string) {
  const admin = yield* register(name)
  yield* AccountStore.use((store) => store.setAdmin(admin.id as UserId, true))
  return admin
})

/** A path below `/_synapse/admin`. */
export const askAdmin = (by: TestUser, method: string, path: string, json?: unknown) =>
  ask(method, `//_synapse/admin${path}`, json === undefined ? { token: by.token } : { token: by.token, json })

/** Asks until the answer is as it should be. */
export const until = <E, R>(request: Effect.Effect<Answer, E, R>, holds: (answer: Answer) => boolean) =>
  Effect.repeat(request, { until: holds, schedule: Schedule.spaced("50 millis") })
