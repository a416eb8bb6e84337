/**
 * The certificate and private key with which the federation listener proves its name: those of the operator, or a
 * self-signed pair that is made on the first start and kept in the data directory.
 */
import { execFile } from "node:child_process"
import { createPrivateKey, randomUUID, X509Certificate } from "node:crypto"
import { readFile, rename, rm, writeFile } from "node:fs/promises"
import { createRequire } from "node:module"
import { isIP } from "node:net"
import { join } from "node:path"
import { createSecureContext } from "node:tls"
import { promisify } from "node:util"
import { splitHostPort } from "@greenroom/actors/federation/ServerDiscovery"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { makeDataDirectory } from "@greenroom/store/DataDirectory"
import { Clock, Effect } from "effect"
import { TlsError } from "./TlsError.ts"

/** Both as PEM. */
export interface TlsCredentials {
  readonly cert: string
  readonly key: string
}

/** The files of the certificate, or the directory of a self-signed one. */
export interface TlsOptions {
  readonly serverName: ServerName
  /** Files, as PEM. Either both or none. */
  readonly tlsCert?: string | undefined
  readonly tlsKey?: string | undefined
  /** The directory of the self-signed pair. */
  readonly dataDir: string
}

const day = 86_400_000

/** How long a self-signed certificate is valid, and how long before its end it is replaced, in ms. */
const lifetime = 3_650 * day
const renewal = 30 * day

/** How long before the end of a certificate of the operator a warning is logged, in ms. */
const warning = 14 * day

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

const attempt = <A>(what: string, run: () => A | Promise<A>, file?: "cert" | "key"): Effect.Effect<A, TlsError> =>
  Effect.tryPromise({
    try: async () => run(),
    catch: (error) => new TlsError({ message: `${what}: ${reasonOf(error)}`, ...(file === undefined ? {} : { file }) })
  })

/** Checks that both can be parsed, belong together, and are of a kind that TLS supports. */
const checked = Effect.fnUntraced(function* (credentials: TlsCredentials, certFile: string, keyFile: string) {
  yield* attempt(`${certFile} is not a certificate in PEM`, () => new X509Certificate(credentials.cert), "cert")
  yield* attempt(`${keyFile} is not a private key in PEM`, () => createPrivateKey(credentials.key), "key")
  const together = `The key ${keyFile} cannot be used with the certificate ${certFile}`
  yield* attempt(together, () => createSecureContext(credentials), "key")
  return credentials
})

const read = Effect.fnUntraced(function* (certFile: string, keyFile: string) {
  const cert = yield* attempt("The TLS certificate cannot be read", () => readFile(certFile, "utf8"), "cert")
  const key = yield* attempt("The TLS key cannot be read", () => readFile(keyFile, "utf8"), "key")
  return yield* checked({ cert, key }, certFile, keyFile)
})

const altNames = (host: string) =>
  isIP(host) === 0 ? [{ type: 2 as const, value: host }] : [{ type: 7 as const, ip: host }]

/**
 * Runs in a process of its own: the library and what it imports take 5 MB, which a server needs once in years. Arguments: the
 * library's file, and those of `generate` as JSON.
 */
const generateProgram = `
const [library, input] = process.argv.slice(1)
const { attributes, options } = JSON.parse(input)
for (const date of ["notBeforeDate", "notAfterDate"]) options[date] = new Date(options[date])
require(library).generate(attributes, options).then((pems) => process.stdout.write(JSON.stringify(pems)))
`

/** A self-signed pair for the host of a server name. `now` is in ms since 1970. */
export const makeSelfSigned = async (serverName: ServerName, now: number): Promise<TlsCredentials> => {
  const { host } = splitHostPort(serverName)
  const options = {
    keyType: "ec",
    curve: "P-256",
    algorithm: "sha256",
    notBeforeDate: now - day,
    notAfterDate: now + lifetime,
    extensions: [
      { name: "basicConstraints", cA: false },
      { name: "keyUsage", digitalSignature: true },
      { name: "extKeyUsage", serverAuth: true },
      { name: "subjectAltName", altNames: altNames(host) }
    ]
  }
  const input = JSON.stringify({ attributes: [{ name: "commonName", value: host }], options })
  const library = createRequire(import.meta.url).resolve("selfsigned")
  const { stdout } = await promisify(execFile)(process.execPath, ["-e", generateProgram, library, input], { env: {} })
  const { cert, private: key } = JSON.parse(stdout) as { readonly cert: string; readonly private: string }
  return { cert, key }
}

/** The existing pair. Fails if it is damaged, of another name or about to expire. */
const readSelfSigned = Effect.fnUntraced(function* (file: string, { serverName }: TlsOptions) {
  const text = yield* attempt("The TLS pair cannot be read", () => readFile(file, "utf8"))
  const [key, cert] = text.split(/(?=-----BEGIN CERTIFICATE-----)/)
  if (key === undefined || cert === undefined) return yield* new TlsError({ message: `${file} is damaged` })
  const credentials = yield* checked({ cert, key }, file, file)
  const { host } = splitHostPort(serverName)
  const certificate = new X509Certificate(cert)
  const isOurs = (isIP(host) === 0 ? certificate.checkHost(host) : certificate.checkIP(host)) !== undefined
  const now = yield* Clock.currentTimeMillis
  const isValid = Date.parse(certificate.validFrom) <= now && Date.parse(certificate.validTo) - now >= renewal
  if (!isOurs || !isValid) {
    return yield* new TlsError({ message: `${file} is damaged, of another server name, or about to expire` })
  }
  return credentials
})

const writeSelfSigned = Effect.fnUntraced(function* (file: string, { dataDir, serverName }: TlsOptions) {
  const now = yield* Clock.currentTimeMillis
  return yield* attempt("A TLS certificate cannot be made", async () => {
    const credentials = await makeSelfSigned(serverName, now)
    const draft = `${file}.${randomUUID()}`
    await makeDataDirectory(dataDir)
    try {
      await writeFile(draft, `${credentials.key.trimEnd()}\n${credentials.cert.trimEnd()}\n`, { mode: 0o600 })
      await rename(draft, file)
    } catch (error) {
      await rm(draft, { force: true })
      throw error
    }
    return credentials
  })
})

/** A warning if other servers refuse the certificate of the operator now, or will refuse it soon. */
export const validityWarning = ({ tlsCert }: TlsOptions, { cert }: TlsCredentials, now: number): string | undefined => {
  if (tlsCert === undefined) return undefined
  const { validFrom, validTo } = new X509Certificate(cert)
  if (Date.parse(validFrom) > now) {
    return `The certificate ${tlsCert} is not valid before ${validFrom}: set the clock of this machine if it is slow`
  }
  const left = Date.parse(validTo) - now
  if (left > warning) return undefined
  const ended = left > 0 ? `expires ${validTo}` : `has expired (${validTo}), and other servers refuse it`
  return `The certificate ${tlsCert} ${ended}: renew it; the server loads the new one within an hour`
}

/** The credentials to listen with. Errors: `TlsError`. */
export const tlsCredentials = Effect.fn("TlsCredentials")(function* (options: TlsOptions) {
  const { tlsCert, tlsKey } = options
  if (tlsCert !== undefined && tlsKey !== undefined) return yield* read(tlsCert, tlsKey)
  if (tlsCert !== undefined || tlsKey !== undefined) {
    return yield* new TlsError({ message: "A TLS certificate and its key must be given together", file: "cert" })
  }
  const file = join(options.dataDir, "federation-tls.pem")
  return yield* Effect.catch(readSelfSigned(file, options), () => writeSelfSigned(file, options))
})
