/** Encrypted messages between two clients of matrix-js-sdk, in a program that uses the packages of `test/clients`. */
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { installJavaScriptClients } from "../../clients/Flow.ts"
import type { Stage } from "./scenes.ts"

const program = fileURLToPath(new URL("../../clients/flows/matrix-js-sdk-between-servers.mjs", import.meta.url))

/** Alice and Bob exchange messages in an encrypted room until each can read the other. */
export const encryptedMessages = async ({ alice, bob, founder, version }: Stage): Promise<void> => {
  await installJavaScriptClients()
  const people = [alice, bob].map(({ session, url }) => ({ ...session, url }))
  const input = JSON.stringify({ people, via: founder.name, version: `${version}` })
  await promisify(execFile)(process.execPath, [program, input], { timeout: 90_000 }).catch((error) => {
    throw new Error(`${error.stdout}${error.stderr}`.trim().slice(-1_000) || String(error))
  })
}
