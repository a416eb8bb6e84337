/**
 * The checks of the machine: disk, store of uploaded files, ports, certificate.
 */
import { createPrivateKey, randomBytes, X509Certificate } from "node:crypto"
import * as fs from "node:fs/promises"
import * as net from "node:net"
import * as path from "node:path"
import { splitHostPort } from "@greenroom/actors/federation/ServerDiscovery"
import { checkStore } from "@greenroom/actors/media/S3Files"
import { plural } from "@greenroom/protocol/Plural"
import { Effect } from "effect"
import type { GatewayConfig } from "../../GatewayConfig.ts"
import { toMediaOptions } from "../../MediaSettings.ts"
import { bucketOf } from "../MediaLocation.ts"
import { size } from "../Progress.ts"
import { afterwards, checking, daysUntil, type Finding, failure, ok, reasonOf, warning } from "./Finding.ts"

/** Free bytes below which the server fails, and below which the operator should act. */
const noSpace = 64e6
const littleSpace = 1e9

/** How many bytes are written to test the disk. */
const probeBytes = 256 * 1024

/** The directory, or its closest existing parent. */
const existing = async (directory: string): Promise<string> =>
  fs.stat(directory).then(
    () => directory,
    () => existing(path.dirname(directory))
  )

const checkDirectory = async (what: string, directory: string, isRunning: boolean): Promise<Finding> => {
  const place = await existing(path.resolve(directory))
  const probe = path.join(place, `.greenroom-doctor-${randomBytes(6).toString("hex")}`)
  const problem = await fs.writeFile(probe, randomBytes(probeBytes), { flag: "wx", flush: true }).then(
    () => undefined,
    (error: NodeJS.ErrnoException) => error
  )
  await fs.rm(probe, { force: true }).catch(() => {})
  if (problem?.code === "ENOSPC")
    return failure(
      "disk",
      `${what} (${place}): the disk is full`,
      `Make room, or give it a larger disk. ${afterwards(isRunning)}`
    )
  if (problem !== undefined)
    return failure(
      "disk",
      `${what} (${place}) cannot be written to: ${problem.message}`,
      "Let the account that runs Greenroom write there, and mount the disk for writing."
    )
  const { bavail, bsize } = await fs.statfs(place)
  const free = bavail * bsize
  const found = `${what} (${place}): ${size(free)} are free`
  if (free < noSpace) return failure("disk", found, "Make room now: below that PostgreSQL stops.")
  return free < littleSpace ? warning("disk", found, "Make room, or give it a larger disk.") : ok("disk", found)
}

/** The directories of the database and of the uploaded files. */
const checkDisk = (config: GatewayConfig, isRunning: boolean) =>
  checking("disk", async () => [
    await checkDirectory("the data directory", config.dataDir, isRunning),
    ...(config.mediaDirectory === undefined
      ? []
      : [await checkDirectory("the files", config.mediaDirectory, isRunning)])
  ])

/** The store of the uploaded files, if it is no directory. */
const checkFiles = (config: GatewayConfig): Effect.Effect<ReadonlyArray<Finding>> => {
  const { s3 } = toMediaOptions(config)
  if (s3 === undefined) return Effect.succeed([])
  const bucket = `the bucket ${bucketOf(config)}`
  return Effect.map(checkStore(s3), (problem) => {
    if (problem === undefined) return [ok("files", `${bucket} answers`)]
    const { isCertain, reason } = problem
    return [
      isCertain
        ? failure(
            "files",
            `${bucket} cannot be used: ${reason}`,
            "Start the store, make the bucket, or correct media.s3 in the settings."
          )
        : warning(
            "files",
            `${bucket} does not say whether it has a file: ${reason}`,
            "Allow the access key to read, write, delete and list (s3:ListBucket), or upload a file as a test."
          )
    ]
  })
}

/** Whether a program listens on the port. */
const isAnswering = (host: string, port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = net.connect({ host: host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host, port })
    socket.setTimeout(3_000, () => socket.destroy())
    socket.once("connect", () => resolve(true))
    socket.once("error", () => resolve(false))
    socket.once("close", () => resolve(false))
    socket.once("connect", () => socket.destroy())
  })

/** The reason why the port cannot be listened on; undefined if it can. */
const whyNot = (host: string, port: number): Promise<string | undefined> =>
  new Promise((resolve) => {
    const server = net.createServer()
    server.once("error", (error: NodeJS.ErrnoException) => resolve(error.code))
    server.listen({ host, port }, () => server.close(() => resolve(undefined)))
  })

/** Whether `/health` reports a healthy server. True without an answer: then the check of the port names the fault. */
const isHealthy = (host: string, port: number): Promise<boolean> =>
  fetch(`http://${host === "0.0.0.0" ? "127.0.0.1" : host.includes(":") ? "[::1]" : host}:${port}/health`, {
    signal: AbortSignal.timeout(5_000)
  }).then(
    ({ ok }) => ok,
    () => true
  )

const checkPort = async (setting: string, host: string, port: number, isRunning: boolean): Promise<Finding> => {
  const where = `${setting}: ${host} port ${port}`
  if (await isAnswering(host, port)) {
    return isRunning
      ? ok("ports", `${where} is open`)
      : failure(
          "ports",
          `${where} is taken by another program`,
          `End that program (ss -ltnp 'sport = :${port}'), or choose another ${setting}.`
        )
  }
  if (isRunning) {
    return failure(
      "ports",
      `${where} is closed, though the server runs`,
      `If the server was started with another ${setting}, give doctor the same options. Else look in its log.`
    )
  }
  const code = await whyNot(host, port)
  if (code === undefined) return ok("ports", `${where} is free for the server, which does not run`)
  return code === "EACCES"
    ? failure(
        "ports",
        `${where} may not be listened on`,
        "Choose a port above 1023, or let the account listen (AmbientCapabilities=CAP_NET_BIND_SERVICE)."
      )
    : failure("ports", `${where} cannot be listened on (${code})`, "Name an address of this machine as host.")
}

/** Whether the server can listen, or already does. `isRunning`: a server holds the database. */
const checkPorts = (config: GatewayConfig, isRunning: boolean) =>
  checking("ports", async () => {
    const { host } = config
    const findings = await Promise.all([
      ...(config.port === 0 ? [] : [checkPort("port", host, config.port, isRunning)]),
      ...(config.federationPort === 0 || !config.federationEnabled
        ? []
        : [checkPort("federation_port", host, config.federationPort, isRunning)]),
      ...(config.metricsPort === undefined || config.metricsPort === 0
        ? []
        : [checkPort("metrics.port", config.metricsHost, config.metricsPort, isRunning)])
    ])
    if (!isRunning || config.port === 0 || (await isHealthy(host, config.port))) return findings
    return [
      ...findings,
      failure(
        "ports",
        "/health reports a fault of the running server",
        `Look at http://${host}:${config.port}/health and the log.`
      )
    ]
  })

const checkCertificate = async (
  certFile: string,
  keyFile: string,
  serverName: string
): Promise<ReadonlyArray<Finding>> => {
  const renew = "Renew it (certbot renew, or whatever makes it); a running server takes it up within an hour."
  const certificate = new X509Certificate(await fs.readFile(certFile))
  const key = createPrivateKey(await fs.readFile(keyFile))
  if (!certificate.checkPrivateKey(key)) {
    return [
      failure(
        "tls",
        `${keyFile} is not the key of ${certFile}`,
        "Give the key that the certificate was made for, as tls_key."
      )
    ]
  }
  const [from, to] = [Date.parse(certificate.validFrom), Date.parse(certificate.validTo)]
  const { host } = splitHostPort(serverName)
  const days = daysUntil(to)
  const isNamed = net.isIP(host) === 0 ? certificate.checkHost(host) : certificate.checkIP(host)
  return [
    to < Date.now()
      ? failure("tls", `${certFile} has expired (${certificate.validTo})`, renew)
      : from > Date.now()
        ? failure(
            "tls",
            `${certFile} is not valid before ${certificate.validFrom}`,
            "Set the clock of this machine, if it is slow; else wait."
          )
        : days < 14
          ? warning("tls", `${certFile} expires in ${plural(days, "day")}`, renew)
          : ok("tls", `${certFile} is valid for ${plural(days, "day")}`),
    ...(isNamed === undefined
      ? [
          warning(
            "tls",
            `${certFile} is not for ${host}`,
            "Others refuse it, unless /.well-known/matrix/server leads to a name that it is for."
          )
        ]
      : [])
  ]
}

/** The certificate of the federation API. */
const checkTls = ({ federationEnabled, serverName, tlsCert, tlsKey }: GatewayConfig) =>
  checking("tls", async () => {
    if (!federationEnabled) return []
    if (tlsCert === undefined || tlsKey === undefined) {
      return [
        warning(
          "tls",
          "the federation API has a self-signed certificate",
          "Give one that other servers trust, with tls_cert and tls_key, or put a reverse proxy in front."
        )
      ]
    }
    return checkCertificate(tlsCert, tlsKey, serverName).catch((error: unknown) => [
      failure(
        "tls",
        `${tlsCert} and ${tlsKey} cannot be used: ${reasonOf(error)}`,
        "Give a certificate and its key as PEM."
      )
    ])
  })

export const checkMachine = (config: GatewayConfig, isRunning: boolean): Effect.Effect<ReadonlyArray<Finding>> =>
  Effect.map(
    Effect.all([checkDisk(config, isRunning), checkFiles(config), checkPorts(config, isRunning), checkTls(config)], {
      concurrency: "unbounded"
    }),
    (findings) => findings.flat()
  )
