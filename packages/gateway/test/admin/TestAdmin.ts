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

/** Asks Synapse's administration API: a path below `/_synapse/admin`. */
export const askAdmin = ({ token }: Pick<TestUser, "token">, method: string, path: string, json?: unknown) =>
  ask(method, `//_synapse/admin${path}`, { token, json })

/** Asks Greenroom's administration API: a path below `/_greenroom/admin/v1`. */
export const askGreenroom = ({ token }: Pick<TestUser, "token">, method: string, path: string, json?: unknown) =>
  ask(method, `//_greenroom/admin/v1${path}`, { token, json })

/** Repeats a request until its answer passes. */
export const repeatUntil = <E, R>(request: Effect.Effect<Answer, E, R>, passes: (answer: Answer) => boolean) =>
  Effect.repeat(request, { until: passes, schedule: Schedule.spaced("50 millis") })
