/**
 * Imports contacts into an account, from a file of vCards or jCards, or from an export of the same user. Rooms and events of
 * an export are not imported: they still exist in their rooms, and their signatures and positions are valid only there.
 *
 *     greenroom import contacts addresses.vcf --user alice
 */
import { createReadStream } from "node:fs"
import { stat } from "node:fs/promises"
import { Readable } from "node:stream"
import { Administration } from "@greenroom/actors/account/Administration"
import { checkExport, contactsOf, ExportUnreadable, isExport } from "@greenroom/actors/admin/ExportFile"
import { Contacts } from "@greenroom/actors/contacts/Contacts"
import { FederationConfig } from "@greenroom/actors/federation/FederationConfig"
import { IdentityClient } from "@greenroom/actors/identity/IdentityClient"
import { Departure } from "@greenroom/actors/runtime/Departure"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { plural } from "@greenroom/protocol/Plural"
import { AuditStore } from "@greenroom/store/AuditStore"
import { ContactStore } from "@greenroom/store/ContactStore"
import { Effect, Layer, Option } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { administration } from "./AccountServices.ts"
import { audited } from "./Audited.ts"
import { configOf } from "./CommandConfig.ts"
import { commandOptions } from "./CommandOptions.ts"
import { AdminFailure, print } from "./CommandOutput.ts"
import { onDatabase } from "./Connection.ts"

const sizeOf = (file: string) =>
  Effect.tryPromise({
    try: async () => (await stat(file)).size,
    catch: (error) => new AdminFailure({ message: `${file} cannot be read: ${(error as Error).message}` })
  })

/** The contacts of an export, which must be of this user. */
const ofExport = Effect.fnUntraced(function* (file: string, userId: UserId | undefined) {
  const { serverName } = yield* HomeServerConfig
  const header = yield* checkExport(file, serverName)
  if (userId !== undefined && userId !== header.user_id) {
    const message = `${file} is an export of ${header.user_id}, not of ${userId}. Nothing was imported.`
    return yield* new ExportUnreadable({ message })
  }
  const body = Readable.from(contactsOf(file), { objectMode: false })
  return { userId: header.user_id, body, length: undefined, format: "jcard" as const }
})

const importContacts = Effect.fnUntraced(function* (
  file: string,
  user: string | undefined,
  mergeBy: "uid" | "addresses"
) {
  const { user: accountOf } = yield* Administration
  const length = yield* sizeOf(file)
  const userId = user === undefined ? undefined : (yield* accountOf(user)).userId
  const source = (yield* isExport(file))
    ? yield* ofExport(file, userId)
    : userId === undefined
      ? yield* new AdminFailure({ message: "--user must name the owner of the contacts" })
      : { userId, body: createReadStream(file), length, format: undefined }
  yield* accountOf(source.userId)
  const session = { userId: source.userId, tokenId: 0, deviceId: "" }
  const outcome = yield* Contacts.use((contacts) =>
    contacts.importFile(session, { body: source.body, length: source.length, format: source.format, mergeBy })
  ).pipe(audited({ action: "contacts.import", target: source.userId }))
  return { userId: source.userId, ...outcome }
})

const services = Layer.merge(
  AuditStore.layer,
  Contacts.layer.pipe(
    Layer.provide(Layer.merge(ContactStore.layer, IdentityClient.layer)),
    Layer.provide([Layer.succeed(FederationConfig, {}), Departure.layer])
  )
)

const contacts = Command.make(
  "contacts",
  {
    ...commandOptions,
    file: Argument.String("file").pipe(
      Argument.withDescription("vCards, jCards (RFC 7095), or an export of the user by this server")
    ),
    user: Flag.String("user").pipe(
      Flag.optional,
      Flag.withDescription(
        "The user whose address book gets the contacts; not needed for an export, which names its user"
      )
    ),
    merge: Flag.Literals("merge", ["addresses", "uid"]).pipe(
      Flag.withDefault("addresses"),
      Flag.withDescription("How cards of the same contact are found: by a common UID or address, or by the UID alone")
    )
  },
  (options) =>
    Effect.gen(function* () {
      const { created, merged, total, unchanged, userId } = yield* importContacts(
        options.file,
        Option.getOrUndefined(options.user),
        options.merge
      )
      const value = { user_id: userId, created, merged, unchanged, total }
      const sentence = `${userId} has ${plural(total, "contact")}: ${created} new, ${merged} merged, ${unchanged} unchanged`
      yield* print(options, value, sentence)
    }).pipe(
      Effect.mapError((error) => ("error" in error ? new AdminFailure({ message: error.error }) : error)),
      Effect.provide(onDatabase(options, (config) => Layer.merge(administration(config), services))),
      Effect.provide(
        Layer.unwrap(
          Effect.map(configOf(options), ({ dataDir, serverName }) =>
            Layer.succeed(HomeServerConfig, { serverName, dataDir })
          )
        )
      )
    )
).pipe(Command.withDescription("Add the contacts of a file to the address book of a user: all of them, or none"))

export const command = Command.make("import").pipe(
  Command.withDescription("Import data into an account"),
  Command.withSubcommands([contacts])
)
