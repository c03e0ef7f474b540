/// Errors of others, in the words and codes of CNI.

import CNIMessages
import Datastore

/// Gives an error its object, and the code by which the runtime knows whether to try again.
func calling<Value>(_ what: String, _ body: () async throws -> Value) async throws(CNIError) -> Value {
  do {
    return try await body()
  } catch let error as CNIError {
    throw error
  } catch DatastoreError.unavailable(let why) {
    throw CNIError(.tryAgainLater, "\(what): the datastore is not available: \(why)", details: "the call can be repeated")
  } catch {
    throw CNIError(.failed, "\(what): \(error)")
  }
}

extension EndpointRecords {
  /// Throws while an operator has locked the datastore.
  func requireReady() async throws(CNIError) {
    guard try await calling("read ClusterInformation", { try await isReady() }) else {
      throw CNIError(
        .tryAgainLater, "Calico is currently not ready to process requests",
        details: "datastoreReady is false in ClusterInformation default: a migration is under way, or was not finished")
    }
  }
}
