/**
 * Ed25519 by libsodium, which takes half the time of OpenSSL. Loaded when it is first needed: a server without other servers
 * hardly signs and verifies nothing.
 */
import { createRequire } from "node:module"

interface Libsodium {
  /** Writes the signature, of 64 bytes. The key is the secret bytes and then the public ones. */
  readonly crypto_sign_detached: (signature: Uint8Array, message: Uint8Array, keyPair: Uint8Array) => void
  /** True if the 64 bytes are a signature of the message by the key of 32 bytes. */
  readonly crypto_sign_verify_detached: (signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array) => boolean
}

let loaded: Libsodium | undefined

const require = createRequire(import.meta.url)

export const libsodium = (): Libsodium => {
  loaded ??= require("sodium-native") as Libsodium
  return loaded
}

/** The file of the module. */
export const libsodiumFile = (): string => require.resolve("sodium-native")
