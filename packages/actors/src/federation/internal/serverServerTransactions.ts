/**
 * Transactions to other home servers, in today's dialect or in the draft's.
 *
 * Source: "Transactions" of the server-server specification, and of the draft.
 */
import { federationPrefix } from "@greenroom/protocol/federation/FederationApi"
import type { OutgoingTransaction, TransactionAnswer } from "@greenroom/protocol/federation/Transaction"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import type { PreparedRequest } from "@greenroom/store/OutgoingStore"
import { Effect } from "effect"
import { answerLimits, encodeContent, pathOf } from "../FederationCalls.ts"
import type { RemoteError, RemoteInvalid } from "../RemoteError.ts"
import { readTransactionAnswer } from "./answers.ts"
import { type Calls, path } from "./serverServerCalls.ts"

const transactionCall = {
  method: "PUT" as const,
  maxBytes: answerLimits.transaction,
  timeoutFactor: 2,
  read: readTransactionAnswer
}

const isDraftPdu = (pdu: JsonObject): boolean => pdu.pdu_id !== undefined

export const transactions = ({ call, callEither }: Calls) => {
  const transactionCalls = ({ destination, edus, origin, pdus, prev_ids, transaction_id, ts }: OutgoingTransaction) => {
    const common = { destination, ...transactionCall }
    const parts = { origin, pdus, ...(edus === undefined ? {} : { edus }) }
    return {
      inDraft: {
        ...common,
        uri: federationPrefix + pathOf("send", transaction_id),
        content: { ...parts, transaction_id, destination, ts, prev_ids } as unknown as JsonObject
      },
      today: {
        ...common,
        uri: path("v1", "send", transaction_id),
        content: { ...parts, origin_server_ts: ts } as unknown as JsonObject
      }
    }
  }

  /** A transaction of EDUs, which belong to no room. */
  const sendEdus = (transaction: OutgoingTransaction): Effect.Effect<TransactionAnswer, RemoteError> => {
    const { inDraft, today } = transactionCalls(transaction)
    return callEither(today, inDraft)
  }

  /** How a transaction with PDUs goes over the wire: in the dialect of their rooms. */
  const prepareTransaction = (transaction: OutgoingTransaction): Effect.Effect<PreparedRequest, RemoteInvalid> => {
    const { inDraft, today } = transactionCalls(transaction)
    const { content, destination, uri } = transaction.pdus.every(isDraftPdu) ? inDraft : today
    return Effect.map(encodeContent(destination, content), (body) => ({ uri, body }))
  }

  /** Sends a prepared transaction. Returns the outcome of each PDU. */
  const sendTransaction = (
    destination: ServerName,
    { body, uri }: PreparedRequest
  ): Effect.Effect<TransactionAnswer, RemoteError> => call({ destination, ...transactionCall, uri, body })

  return {
    sendEdus,
    prepareTransaction,
    sendTransaction
  }
}
