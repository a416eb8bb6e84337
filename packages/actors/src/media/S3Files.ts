/**
 * `MediaFiles` in an S3-compatible store, for nodes that share no directory. Files are received on the disk of the node and
 * then sent as one object, named by their SHA-256, which the store checks.
 */

import { createReadStream } from "node:fs"
import * as path from "node:path"
import { finished, pipeline, Readable } from "node:stream"
import type { S3Client } from "@aws-sdk/client-s3"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { Departure } from "../runtime/Departure.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { NodeUnavailable } from "../runtime/NodeUnavailable.ts"
import { atMost } from "./internal/atMost.ts"
import type { Received } from "./internal/Receive.ts"
import { MediaConfig, type S3Options } from "./MediaConfig.ts"
import { type ByteRange, incomingDirectory, localCopy, lost, MediaFiles } from "./MediaFiles.ts"

/** How long a connection may take to stand, and how long nothing may travel over it, in ms. */
const connectionTimeout = 5_000
const socketTimeout = 60_000

/** How long the store may take to answer, in ms, beside the time that an upload takes at the lowest rate. */
const answerTimeout = 60_000
/** Bytes a millisecond. */
const lowestRate = 4

/** The largest answer that is not a file, in bytes. */
const maxAnswerBytes = 64 * 1024

/** Downloads hold a connection for as long as their clients read. */
const agent = { keepAlive: true, maxSockets: 512 }

const maxReasonLength = 500

/** The fault in one line, for the log. */
const reasonOf = (error: unknown): string => {
  const { code, message, name } = error as { readonly name?: string; readonly message?: string; readonly code?: string }
  const reason = [...new Set([code ?? name, message])].filter((text) => text !== undefined && text !== "").join(": ")
  return reason.replaceAll(/\s+/g, " ").slice(0, maxReasonLength)
}

const isMissing = (error: unknown): boolean =>
  ["NoSuchKey", "NotFound"].includes((error as { readonly name?: string }).name ?? "")

/** The library reads an answer that is not a file whole. */
const boundAnswers = (client: S3Client): void => {
  client.middlewareStack.add(
    (next, { commandName }) =>
      async (args) => {
        const result = await next(args)
        const response = result.response as { readonly statusCode: number; body: unknown }
        const isFile = commandName === "GetObjectCommand" && response.statusCode < 300
        if (!isFile && response.body instanceof Readable) {
          response.body = pipeline(response.body, atMost(maxAnswerBytes), () => {})
        }
        return result
      },
    { step: "deserialize", priority: "low" }
  )
}

/** The client, which is loaded when it is needed first. */
const loadClient = async (options: S3Options) => {
  const sdk = await import("@aws-sdk/client-s3")
  const client = new sdk.S3Client({
    endpoint: options.endpoint,
    region: options.region,
    forcePathStyle: options.pathStyle ?? true,
    credentials: {
      accessKeyId: options.accessKeyId,
      secretAccessKey: Redacted.value(options.secretAccessKey)
    },
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    requestHandler: { connectionTimeout, socketTimeout, httpAgent: agent, httpsAgent: agent }
  })
  boundAnswers(client)
  return { client, sdk }
}

type Loaded = Awaited<ReturnType<typeof loadClient>>

const s3Files = (
  options: S3Options,
  incoming: string,
  loaded: () => Promise<Loaded>,
  whileStaying: Departure["Service"]["whileStaying"]
): MediaFiles["Service"] => {
  const objectOf = (sha256: Uint8Array) => ({
    Bucket: options.bucket,
    Key: `${options.prefix ?? ""}${Buffer.from(sha256).toString("hex")}`
  })

  const put = async ({ path: file, sha256, size }: Received, abortSignal: AbortSignal): Promise<void> => {
    const { client, sdk } = await loaded()
    const command = new sdk.PutObjectCommand({
      ...objectOf(sha256),
      Body: createReadStream(file, { signal: abortSignal }),
      ContentLength: size,
      ChecksumSHA256: Buffer.from(sha256).toString("base64")
    })
    // The hash of the body is known, so that the request is signed without reading it first.
    command.middlewareStack.add(
      (next) => (args) => {
        const { headers } = args.request as { readonly headers: Record<string, string> }
        headers["x-amz-content-sha256"] = Buffer.from(sha256).toString("hex")
        return next(args)
      },
      { step: "build" }
    )
    await client.send(command, { abortSignal })
  }

  const read = async (
    sha256: Uint8Array,
    range: ByteRange | undefined,
    abortSignal: AbortSignal
  ): Promise<Readable> => {
    const { client, sdk } = await loaded()
    const { Body, ContentLength } = await client.send(
      new sdk.GetObjectCommand({
        ...objectOf(sha256),
        ...(range === undefined ? {} : { Range: `bytes=${range.start}-${range.end}` })
      }),
      { abortSignal }
    )
    const body = Body as Readable
    if (range === undefined || ContentLength === range.end - range.start + 1) return body
    body.destroy()
    throw new Error("it did not answer with the range that was asked for")
  }

  const remove = async (sha256: Uint8Array, abortSignal: AbortSignal): Promise<void> => {
    const { client, sdk } = await loaded()
    await client.send(new sdk.DeleteObjectCommand(objectOf(sha256)), { abortSignal })
  }

  /** A request to the store, which may take so many ms. */
  const ask = <A>(request: (signal: AbortSignal) => Promise<A>, timeout = answerTimeout) =>
    whileStaying(Effect.timeout(Effect.tryPromise({ try: request, catch: (error) => error }), timeout))

  /** The operator finds the fault in the log. Clients get 503, and try again. */
  const failed = (error: unknown) =>
    Effect.andThen(
      Effect.logError(`A request to the S3 store failed: ${reasonOf(error)}`),
      Effect.die(new NodeUnavailable("The S3 store cannot be used"))
    )

  const readFile: MediaFiles["Service"]["read"] = (sha256, range) =>
    ask((signal) => read(sha256, range, signal)).pipe(
      Effect.catch((error) => (isMissing(error) ? Effect.fail(lost) : failed(error))),
      Effect.tap(endWithNode)
    )

  /** Ends the body where the node goes down before the store has sent it. */
  const endWithNode = (body: Readable) =>
    Effect.callback<void>((resume) => void finished(body, () => resume(Effect.void))).pipe(
      whileStaying,
      Effect.tapCause((cause) => Effect.sync(() => body.destroy(Cause.squash(cause) as Error))),
      Effect.forkDetach
    )

  return {
    incoming: incomingDirectory(incoming),
    put: (received) =>
      Effect.catch(
        ask((signal) => put(received, signal), answerTimeout + received.size / lowestRate),
        failed
      ),
    read: readFile,
    local: (sha256, size) => localCopy(incomingDirectory(incoming), readFile(sha256), size),
    remove: (sha256) =>
      Effect.catch(
        ask((signal) => remove(sha256, signal)),
        failed
      )
  }
}

/** Files in the store that the options name. */
const layerS3 = (options: S3Options) =>
  Layer.effect(
    MediaFiles,
    Effect.gen(function* () {
      const { dataDir } = yield* HomeServerConfig
      const { directory = path.join(dataDir, "media") } = yield* MediaConfig
      const { whileStaying } = yield* Departure
      let loading: Promise<Loaded> | undefined
      const loaded = () => {
        loading ??= loadClient(options)
        return loading
      }
      yield* Effect.addFinalizer(() =>
        Effect.promise(async () => {
          if (loading !== undefined) (await loading).client.destroy()
        })
      )
      return MediaFiles.of(s3Files(options, path.join(directory, "incoming"), loaded, whileStaying))
    })
  )

/** How long the store may take to answer the check, in ms. */
const checkTimeout = 10_000

/** The errors by which a store says that it may not say whether a file exists. Reading and writing files may be allowed all the same. */
const hidesFiles = (name: string): boolean => name === "AccessDenied" || name === "Forbidden"

/** Why the files of a store cannot be used. `isCertain`: false if the key may just not be allowed to list the bucket. */
export interface S3Problem {
  readonly reason: string
  readonly isCertain: boolean
}

const problemOf = (error: unknown): S3Problem | undefined => {
  if (isMissing(error)) return undefined
  return { reason: reasonOf(error), isCertain: !hidesFiles((error as { readonly name?: string }).name ?? "") }
}

/** Asks the store for a file that it does not have: undefined if it answers so. */
export const checkStore = (options: S3Options): Effect.Effect<S3Problem | undefined> =>
  Effect.promise(async () => {
    const { client, sdk } = await loadClient(options)
    const absent = { Bucket: options.bucket, Key: `${options.prefix ?? ""}greenroom-check` }
    try {
      await client.send(new sdk.GetObjectCommand(absent), { abortSignal: AbortSignal.timeout(checkTimeout) })
      return undefined
    } catch (error) {
      return problemOf(error)
    } finally {
      client.destroy()
    }
  })

/**
 * Checks the store once, beside the start of the server: a fault of it is logged. The server starts all the same, since rooms work without
 * files, and the store may come back.
 */
export const checkAtStart = (s3: S3Options | undefined): Layer.Layer<never> =>
  s3 === undefined
    ? Layer.empty
    : Layer.effectDiscard(
        Effect.forkScoped(
          Effect.flatMap(checkStore(s3), (problem) => {
            if (problem === undefined) return Effect.void
            const bucket = `media.s3: the bucket ${s3.bucket} of ${s3.endpoint}`
            return problem.isCertain
              ? Effect.logError(`${bucket} cannot be used, so uploads and downloads fail: ${problem.reason}`)
              : Effect.logWarning(`${bucket} does not say whether it has a file: ${problem.reason}`)
          })
        )
      )

/** Files where the options of the content repository say. */
export const layerConfigured = (s3: S3Options | undefined) => (s3 === undefined ? MediaFiles.layerDisk : layerS3(s3))
