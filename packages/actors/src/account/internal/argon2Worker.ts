/**
 * The program of a thread that hashes passwords (`HashThread.ts`). On Linux threads have priorities of their own: this one
 * comes after the others. It imports nothing but Node, so that it starts fast and stays small.
 */
import { type Argon2Parameters, argon2Sync } from "node:crypto"
import { constants, setPriority } from "node:os"
import { parentPort } from "node:worker_threads"

if (process.platform === "linux") setPriority(constants.priority.PRIORITY_BELOW_NORMAL)

parentPort?.on("message", (parameters: Argon2Parameters) => {
  parentPort?.postMessage(argon2Sync("argon2id", parameters))
})
