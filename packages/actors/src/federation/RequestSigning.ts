/**
 * Signing requests to other servers, and checking the signatures of theirs: Ed25519 over the canonical JSON of method,
 * uri, origin, destination and content.
 *
 * We send bodies in canonical form, and so may others. The bytes of such a body are the signed bytes, so its signature is
 * checked without parsing it. Large bodies are signed and checked outside of the event loop.
 *
 * Source: "Security" of the draft, "Request Authentication" of the server-server specification.
 */
import { type KeyObject, sign, verify } from "node:crypto"
import type { RequestContent, XMatrix } from "@greenroom/protocol/federation/XMatrix"
import { formatXMatrix } from "@greenroom/protocol/federation/XMatrix"
import type { JsonObject } from "@greenroom/protocol/Json"
import { encodeOrThrow } from "@greenroom/room/CanonicalJson"
import {
  decodeBase64,
  encodeBase64,
  type SigningKey,
  signBytes,
  type VerifyKeys,
  verifyBytes
} from "@greenroom/room/Signing"
import { Effect } from "effect"

/** Up to this many bytes are signed at once: it takes less than a millisecond. */
const smallBytes = 64 * 1024

/** Everything that a signature covers except the body, which is inserted unchanged. */
export type RequestHead = Omit<RequestContent, "content">

/**
 * The canonical JSON that is signed. `content`, as canonical JSON, is its first key, so what follows is the same
 * whatever the body is.
 */
const signedBytes = (head: RequestHead, content: Uint8Array | undefined): Buffer => {
  const { destination, method, origin, uri } = head
  const rest = encodeOrThrow({ destination, method, origin, uri } satisfies JsonObject)
  return content === undefined
    ? Buffer.from(rest, "utf8")
    : Buffer.concat([Buffer.from('{"content":'), content, Buffer.from(`,${rest.slice(1)}`, "utf8")])
}

/** The signature in base64. */
const signatureOf = (bytes: Buffer, key: SigningKey): Effect.Effect<string> =>
  bytes.length <= smallBytes
    ? Effect.sync(() => signBytes(bytes, key))
    : Effect.callback((resume) =>
        sign(null, bytes, key.secretKey, (error, signature) =>
          resume(error === null ? Effect.succeed(encodeBase64(signature)) : Effect.die(error))
        )
      )

const isSignature = (bytes: Buffer, key: KeyObject, signature: Uint8Array): Effect.Effect<boolean> =>
  bytes.length <= smallBytes
    ? Effect.sync(() => verifyBytes(bytes, signature, key))
    : Effect.callback((resume) =>
        verify(null, bytes, key, signature, (error, isRight) => resume(Effect.succeed(error === null && isRight)))
      )

/** The Authorization header of a request of ours. `content` is the body as canonical JSON. */
export const authorizationOf = (
  head: RequestHead,
  content: Uint8Array | undefined,
  key: SigningKey
): Effect.Effect<string> =>
  Effect.map(signatureOf(signedBytes(head, content), key), (sig) =>
    formatXMatrix({
      origin: head.origin,
      key: key.keyId,
      sig,
      destination: head.destination
    })
  )

/** True if one of the signatures is by its key over the request with that body. */
export const isSignedBy = Effect.fnUntraced(function* (
  head: RequestHead,
  content: Uint8Array | undefined,
  signatures: ReadonlyArray<XMatrix>,
  keys: VerifyKeys
) {
  const bytes = signedBytes(head, content)
  for (const xMatrix of signatures) {
    const key = keys.get(xMatrix.key)
    const signature = decodeBase64(xMatrix.sig)
    if (key === undefined || signature?.length !== 64) continue
    if (yield* isSignature(bytes, key, signature)) return true
  }
  return false
})
