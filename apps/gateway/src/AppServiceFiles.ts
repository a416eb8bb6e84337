/**
 * Reads the registration files of application services.
 *
 * Source: "Registration" of the application service API.
 */
import { type ConfigurationError, refuse } from "@greenroom/gateway/SettingSources"
import { AppServiceRegistration } from "@greenroom/protocol/app-service/AppServiceRegistration"
import { Effect, FileSystem, Result, Schema } from "effect"

const decode = Schema.decodeUnknownResult(AppServiceRegistration)

/** Loaded only if there are files. */
const parser = Effect.promise(() => import("yaml"))

const parse = Effect.fnUntraced(function* (file: string, text: string) {
  const { parse } = yield* parser
  return yield* Effect.catch(
    Effect.try({ try: () => parse(text) as unknown, catch: (error) => (error as Error).message.split("\n")[0]! }),
    (reason) => refuse(`app_service_files: ${file} is not YAML: ${reason}`)
  )
})

const read = Effect.fnUntraced(function* (file: string) {
  const files = yield* FileSystem.FileSystem
  const text = yield* Effect.catch(files.readFileString(file), () =>
    refuse(`app_service_files: ${file} cannot be read`)
  )
  const decoded = decode(yield* parse(file, text))
  if (Result.isFailure(decoded)) {
    const problem = String(decoded.failure).replace(/\s*\n\s*/g, " ")
    return yield* refuse(`app_service_files: ${file} is not a registration of an application service: ${problem}`)
  }
  return decoded.success
})

/** The first key that has the same value in two registrations. */
const clash = (registrations: ReadonlyArray<AppServiceRegistration>): string | undefined =>
  (["id", "as_token", "sender_localpart"] as const).find(
    (key) => new Set(registrations.map((registration) => registration[key])).size < registrations.length
  )

/** Errors: `ConfigurationError` that names the file, or the key that two of them share. */
export const readAppServices: (
  files: ReadonlyArray<string>
) => Effect.Effect<ReadonlyArray<AppServiceRegistration>, ConfigurationError, FileSystem.FileSystem> = Effect.fn(
  "readAppServices"
)(function* (files) {
  const registrations = yield* Effect.forEach(files, read)
  const shared = clash(registrations)
  return shared === undefined
    ? registrations
    : yield* refuse(`app_service_files: two registrations have the same ${shared}`)
})
