/**
 * The audit log: what administrators did, on whom and why. Rows are a hash chain; its head is signed with the server's key
 * and written to the log of the program at an interval, so that rows that were changed, cut or inserted are found.
 *
 * An action is recorded before it runs, and again if it fails; if it cannot be recorded it does not run.
 */
import { decodeBase64, signBytes, verifyBytes } from "@greenroom/room/Signing"
import {
  type AuditEntry,
  type AuditHead,
  AuditStore,
  type NewAuditEntry,
  signedText
} from "@greenroom/store/AuditStore"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { Clock, Context, Effect, Layer } from "effect"
import { periodicallyOnce } from "../runtime/Singletons.ts"

export type { AuditEntry, AuditHead, NewAuditEntry }

/** How often the head of the chain is signed, where rows were added. */
const signingInterval = "1 hour"

/** The result of a verification of the audit log. */
export interface AuditVerdict {
  readonly rows: number
  /** How many signed heads were checked. */
  readonly heads: number
  /** The faults, one line each. Empty for an intact log. */
  readonly problems: ReadonlyArray<string>
}

const make = Effect.gen(function* () {
  const store = yield* AuditStore
  const keys = yield* SigningKeys

  const signHead = Effect.fn("AuditLog.signHead")(function* () {
    const last = yield* store.last
    if (last === undefined || (yield* store.heads).at(-1)?.seq === last.seq) return
    const signedAt = yield* Clock.currentTimeMillis
    const key = yield* keys.current
    const signature = signBytes(Buffer.from(signedText({ ...last, signedAt })), key)
    yield* store.addHead({ ...last, signedAt, keyId: key.keyId, signature })
    yield* Effect.logInfo(`Audit log: row ${last.seq} has the hash ${last.hash}`)
  })

  const problemOf = (
    head: AuditHead,
    hash: string | undefined,
    publicKeys: ReadonlyMap<string, Parameters<typeof verifyBytes>[2]>
  ): string | undefined => {
    const key = publicKeys.get(head.keyId)
    const signature = decodeBase64(head.signature)
    const isSigned =
      key !== undefined && signature !== undefined && verifyBytes(Buffer.from(signedText(head)), signature, key)
    if (!isSigned) return `the signed head of row ${head.seq} is not signed by this server`
    if (hash === undefined) return `row ${head.seq} is missing: the head of the log was signed at it`
    return hash === head.hash ? undefined : `row ${head.seq} is another one than at the time its head was signed`
  }

  const verify = Effect.fn("AuditLog.verify")(function* (noted?: Pick<AuditHead, "seq" | "hash">) {
    const heads = yield* store.heads
    const publicKeys = new Map((yield* keys.list).map(({ keyId, publicKey }) => [keyId, publicKey]))
    const wanted = [...heads.map(({ seq }) => seq), ...(noted === undefined ? [] : [noted.seq])]
    const { hashes, problems, rows } = yield* store.verify(wanted)
    const ofHeads = heads.flatMap((head) => problemOf(head, hashes.get(head.seq), publicKeys) ?? [])
    const ofNoted =
      noted !== undefined && hashes.get(noted.seq) !== noted.hash
        ? [`row ${noted.seq} does not have the hash given`]
        : []
    return { rows, heads: heads.length, problems: [...problems, ...ofHeads, ...ofNoted] }
  })

  return AuditLog.of({
    run: store.run,
    following: store.following,
    list: store.list,
    signHead: signHead(),
    verify
  })
})

/** The audit log: appends entries, reads them, and verifies the hash chain. */
export class AuditLog extends Context.Service<
  AuditLog,
  {
    /** Records an action, and runs it. */
    readonly run: AuditStore["Service"]["run"]
    readonly following: AuditStore["Service"]["following"]
    /** The newest entries first. */
    readonly list: AuditStore["Service"]["list"]
    /** Signs the end of the chain, unless it is signed already. */
    readonly signHead: Effect.Effect<void>
    /** Checks the chain against its signed heads, and against a head that was noted elsewhere, such as in the log. */
    readonly verify: (noted?: Pick<AuditHead, "seq" | "hash">) => Effect.Effect<AuditVerdict>
  }
>()("greenroom/actors/AuditLog") {
  /** Works whether a server runs or not. */
  static readonly layerOnStores = Layer.effect(AuditLog, make)

  /** Signs the head at an interval too. */
  static readonly layer = Layer.effect(
    AuditLog,
    Effect.tap(make, ({ signHead }) =>
      periodicallyOnce("Signing the audit log", signingInterval, signHead, { atOnce: true })
    )
  )
}
