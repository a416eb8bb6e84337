/**
 * Signing keys on the command line.
 *
 *     greenroom signing-key rotate
 */
import { encodeBase64, exportVerifyKey } from "@greenroom/room/Signing"
import { AuditStore } from "@greenroom/store/AuditStore"
import { type PublishedKey, SigningKeys } from "@greenroom/store/SigningKeys"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { audited } from "./Audited.ts"
import { type CommandOptions, commandOptions } from "./CommandOptions.ts"
import { printAll, printLine, time } from "./CommandOutput.ts"
import { onDatabase } from "./Connection.ts"

const describeKey = ({ expiredAt, keyId }: PublishedKey): string =>
  `${keyId}  ${expiredAt === undefined ? "signs now" : `replaced ${time(expiredAt)}, published for what it signed`}`

const toValue = ({ createdAt, expiredAt, keyId, publicKey }: PublishedKey) => ({
  key_id: keyId,
  public_key: encodeBase64(exportVerifyKey(publicKey)),
  created_at: createdAt,
  expired_at: expiredAt
})

const withKeys = <A, E>(
  flags: CommandOptions,
  use: (keys: SigningKeys["Service"]) => Effect.Effect<A, E, AuditStore>
) =>
  Effect.provide(
    SigningKeys.use(use),
    onDatabase(flags, ({ serverName }) => Layer.merge(SigningKeys.layer(serverName), AuditStore.layer))
  )

const listKeys = Command.make("list", commandOptions, (options) =>
  withKeys(options, ({ list }) => Effect.flatMap(list, (keys) => printAll(options, keys, describeKey, toValue)))
).pipe(Command.withDescription("List all signing keys, the current one first"))

const rotateKey = Command.make("rotate", commandOptions, (options) =>
  withKeys(options, ({ rotate }) =>
    Effect.flatMap(audited({ action: "signing_key.rotate" })(rotate), ({ keyId }) =>
      printLine(
        options,
        `${keyId} signs from now on, in a running server within a minute. Older keys stay published.`,
        { key_id: keyId }
      )
    )
  )
).pipe(Command.withDescription("Sign with a new key from now on. Signatures of older keys stay valid"))

export const command = Command.make("signing-key").pipe(
  Command.withDescription("List and rotate the keys that sign events and requests"),
  Command.withSubcommands([listKeys, rotateKey])
)
