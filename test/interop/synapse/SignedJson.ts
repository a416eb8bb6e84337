/**
 * Canonical JSON, hashes and signatures of events, independent of `packages/room`, which the recorded events test. Synapse accepts the
 * events, which shows that the signatures are correct.
 */
import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign } from "node:crypto"

export interface Pdu {
  readonly [key: string]: unknown
  readonly type: string
  readonly content: { readonly [key: string]: unknown }
}

const compareCodePoints = (left: string, right: string) => Buffer.compare(Buffer.from(left), Buffer.from(right))

export const canonicalJson = (value: unknown): string => {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`
  if (typeof value !== "object" || value === null) return JSON.stringify(value)
  const entries = Object.entries(value).filter(([, inner]) => inner !== undefined)
  entries.sort(([left], [right]) => compareCodePoints(left, right))
  return `{${entries.map(([key, inner]) => `${JSON.stringify(key)}:${canonicalJson(inner)}`).join(",")}}`
}

export const unpadded = (bytes: Buffer): string => bytes.toString("base64").replace(/=+$/, "")

const pkcs8 = Buffer.from("302e020100300506032b657004220420", "hex")

export const privateKey = (seed: Buffer): KeyObject =>
  createPrivateKey({ key: Buffer.concat([pkcs8, seed]), format: "der", type: "pkcs8" })

/** Unpadded Base64 of the public half. */
export const publicKey = (key: KeyObject): string =>
  unpadded(createPublicKey(key).export({ format: "der", type: "spki" }).subarray(-32))

/** Unpadded Base64 of the signature over the canonical JSON without `signatures` and `unsigned`. */
export const signature = (json: object, key: KeyObject): string =>
  unpadded(sign(null, Buffer.from(canonicalJson({ ...json, signatures: undefined, unsigned: undefined })), key))

const alwaysKept = [
  "event_id",
  "type",
  "room_id",
  "sender",
  "state_key",
  "hashes",
  "signatures",
  "depth",
  "prev_events",
  "auth_events",
  "origin_server_ts"
]

const powerLevelKeys = ["ban", "events", "events_default", "kick", "redact", "state_default", "users", "users_default"]

const pick = (from: { readonly [key: string]: unknown }, keys: ReadonlyArray<string>) =>
  Object.fromEntries(keys.filter((key) => key in from).map((key) => [key, from[key]]))

const signedPart = (invite: unknown) =>
  typeof invite === "object" && invite !== null && "signed" in invite
    ? { third_party_invite: { signed: invite.signed } }
    : {}

const keptContent = ({ content, type }: Pdu, version: number) => {
  switch (type) {
    case "m.room.member":
      return {
        ...pick(content, ["membership", ...(version >= 9 ? ["join_authorised_via_users_server"] : [])]),
        ...(version >= 11 ? signedPart(content.third_party_invite) : {})
      }
    case "m.room.create":
      return version >= 11 ? content : pick(content, ["creator"])
    case "m.room.join_rules":
      return pick(content, ["join_rule", ...(version >= 8 ? ["allow"] : [])])
    case "m.room.power_levels":
      return pick(content, [...powerLevelKeys, ...(version >= 11 ? ["invite"] : [])])
    case "m.room.aliases":
      return version <= 5 ? pick(content, ["aliases"]) : {}
    case "m.room.history_visibility":
      return pick(content, ["history_visibility"])
    case "m.room.redaction":
      return version >= 11 ? pick(content, ["redacts"]) : {}
    default:
      return {}
  }
}

/** An event after redaction. */
export const redacted = (pdu: Pdu, version: number): Pdu => ({
  ...pick(pdu, [...alwaysKept, ...(version >= 11 ? [] : ["origin", "membership", "prev_state"])]),
  type: pdu.type,
  content: keptContent(pdu, version)
})

const sha256 = (json: object): Buffer => createHash("sha256").update(canonicalJson(json)).digest()

export const contentHash = (pdu: object): string =>
  unpadded(sha256({ ...pdu, unsigned: undefined, signatures: undefined, hashes: undefined }))

const referenceHashBytes = (pdu: Pdu, version: number) =>
  sha256({ ...redacted(pdu, version), signatures: undefined, unsigned: undefined })

/** Unpadded standard Base64, as `prev_events` of versions 1 and 2 carry it. */
export const referenceHash = (pdu: Pdu, version: number): string => unpadded(referenceHashBytes(pdu, version))

export const eventId = (pdu: Pdu, version: number): string => {
  if (version <= 2) return pdu.event_id as string
  const hash = referenceHashBytes(pdu, version)
  return `$${version === 3 ? unpadded(hash) : hash.toString("base64url")}`
}

export interface Signer {
  readonly serverName: string
  readonly key: KeyObject
}

/** The key ID of every server here. */
export const keyId = "ed25519:fixture"

/** With this content hash, or the right one, and the signature of a server beside those that the event has. */
export const signEvent = (pdu: Pdu, version: number, { key, serverName }: Signer, sha256 = contentHash(pdu)): Pdu => {
  const hashed: Pdu = { ...pdu, hashes: { sha256 } }
  const signed = signature(redacted(hashed, version), key)
  return { ...hashed, signatures: { ...(pdu.signatures as object), [serverName]: { [keyId]: signed } } }
}
