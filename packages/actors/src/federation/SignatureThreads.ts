/**
 * Threads that check Ed25519 signatures: those of a large room take longer than all other work of a join. They start with
 * the first signatures, and end when they have had nothing to do for a while. A server that has one processor checks on its
 * event loop.
 */
import type { KeyObject } from "node:crypto"
import { availableParallelism } from "node:os"
import { Worker } from "node:worker_threads"
import { verifierFile, verifyKeyBytes } from "@greenroom/room/Signing"
import { Context, Effect, Layer } from "effect"

/** A signature of 64 bytes to check. */
export interface SignatureJob {
  readonly bytes: Uint8Array
  readonly signature: Uint8Array
  readonly key: KeyObject
}

/** The most threads, and how long an idle one is kept, in ms. */
const maxThreads = 4
const idleTime = 10_000

/** Jobs as a thread receives them: the signed texts, the signatures and the keys, each one after the other. */
interface Batch {
  readonly texts: Uint8Array
  readonly ends: Uint32Array
  readonly signatures: Uint8Array
  readonly keys: Uint8Array
  readonly keyOf: Uint32Array
}

/** The program of a thread. It is text that imports the one module: what strips types would take 20 MB in every thread. */
const program = `
const { parentPort, workerData } = require("node:worker_threads")
const { crypto_sign_verify_detached: isRight } = require(workerData)

parentPort.on("message", ({ texts, ends, signatures, keys, keyOf }) => {
  const results = new Uint8Array(ends.length)
  let begin = 0
  for (let i = 0; i < ends.length; i++) {
    const key = keys.subarray(32 * keyOf[i], 32 * keyOf[i] + 32)
    const signature = signatures.subarray(64 * i, 64 * i + 64)
    results[i] = isRight(signature, texts.subarray(begin, ends[i]), key) ? 1 : 0
    begin = ends[i]
  }
  parentPort.postMessage(results, [results.buffer])
})
`

const batchOf = (jobs: ReadonlyArray<SignatureJob>): Batch => {
  const numbers = new Map<KeyObject, number>()
  for (const { key } of jobs) if (!numbers.has(key)) numbers.set(key, numbers.size)
  const texts = new Uint8Array(jobs.reduce((size, { bytes }) => size + bytes.length, 0))
  const ends = new Uint32Array(jobs.length)
  const signatures = new Uint8Array(64 * jobs.length)
  const keys = new Uint8Array(32 * numbers.size)
  const keyOf = new Uint32Array(jobs.length)
  for (const [key, number] of numbers) keys.set(verifyKeyBytes(key), 32 * number)
  let end = 0
  for (const [index, { bytes, key, signature }] of jobs.entries()) {
    texts.set(bytes, end)
    end += bytes.length
    ends[index] = end
    signatures.set(signature, 64 * index)
    keyOf[index] = numbers.get(key)!
  }
  return { texts, ends, signatures, keys, keyOf }
}

/** 1 for each right signature, in the order of the jobs; undefined if the thread has ended. */
type Results = Uint8Array | undefined

class SignatureThread {
  private readonly worker: Worker
  private readonly waiting: Array<(results: Results) => void> = []
  private idle: NodeJS.Timeout | undefined
  private readonly ended: (thread: SignatureThread) => void

  constructor(ended: (thread: SignatureThread) => void) {
    this.ended = ended
    this.worker = new Worker(program, {
      eval: true,
      workerData: verifierFile(),
      execArgv: [],
      env: {},
      resourceLimits: { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 2 }
    })
    this.worker
      .on("message", (results: Uint8Array) => this.complete(results))
      .on("error", () => this.end())
      .on("exit", () => this.end())
      .unref()
  }

  get load(): number {
    return this.waiting.length
  }

  check(jobs: ReadonlyArray<SignatureJob>, resume: (results: Results) => void): void {
    clearTimeout(this.idle)
    this.waiting.push(resume)
    this.worker.ref()
    const batch = batchOf(jobs)
    this.worker.postMessage(
      batch,
      Object.values(batch).map((array: Uint8Array | Uint32Array) => array.buffer as ArrayBuffer)
    )
  }

  /** The thread takes nothing more. What it has not answered is undecided. */
  end(): void {
    clearTimeout(this.idle)
    this.ended(this)
    void this.worker.terminate()
    for (const resume of this.waiting.splice(0)) resume(undefined)
  }

  private complete(results: Uint8Array): void {
    this.waiting.shift()?.(results)
    if (this.waiting.length > 0) return
    this.worker.unref()
    this.idle = setTimeout(() => this.end(), idleTime).unref()
  }
}

const make = Effect.gen(function* () {
  const threads = new Set<SignatureThread>()
  const most = Math.min(maxThreads, availableParallelism() - 1)
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      for (const thread of threads) thread.end()
    })
  )

  /** An idle thread, else a new one, else the one that has the fewest batches. */
  const next = (): SignatureThread => {
    const [best] = [...threads].sort((a, b) => a.load - b.load)
    if (best !== undefined && (best.load === 0 || threads.size >= most)) return best
    const started = new SignatureThread((ended) => threads.delete(ended))
    threads.add(started)
    return started
  }

  return SignatureThreads.of({
    hasThreads: most > 0,
    check: (jobs) =>
      jobs.length === 0
        ? Effect.succeed(new Uint8Array())
        : Effect.callback<Results>((resume) => next().check(jobs, (results) => resume(Effect.succeed(results))))
  })
})

/** Threads that check many Ed25519 signatures. */
export class SignatureThreads extends Context.Service<
  SignatureThreads,
  {
    readonly hasThreads: boolean
    /** 1 for each right signature, in the order of the jobs; undefined if a thread has failed, which decides nothing. */
    readonly check: (jobs: ReadonlyArray<SignatureJob>) => Effect.Effect<Uint8Array | undefined>
  }
>()("greenroom/actors/SignatureThreads") {
  static readonly layer: Layer.Layer<SignatureThreads> = Layer.effect(SignatureThreads, make)
}
