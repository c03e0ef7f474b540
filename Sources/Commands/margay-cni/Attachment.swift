/// One call, carried out: by the node process, and by another IPAM plugin where the configuration names one.
///
/// The order keeps an address in one hand: an ADD asks the IPAM plugin first, a DEL asks it last, when the node process has taken the cable
/// down, or has been left a DEL on disk that it finishes before it takes any address of that plugin again.

import CLinux
import CNIMessages
import Glibc
import JSON
import Sockets

struct Attachment {
  let request: NodeRequest
  /// Nil when addresses come from the node process.
  let delegate: DelegatedIPAM?

  func perform() throws(CNIError) -> JSONValue? {
    switch request.call.command {
    case .add: return try add()
    case .delete:
      try delete()
      return nil
    case .check:
      try check()
      return nil
    case .version: return nil
    }
  }

  private func add() throws(CNIError) -> JSONValue? {
    let namespace = try openNamespace()
    guard let delegate else { return try add(NodeClient(request), namespace) }
    var request = request
    // Fails without a trace, by the specification: a DEL now would release what an earlier ADD of the same container holds.
    request.ipamResult = try delegate.run(.add)
    do throws(CNIError) {
      return try add(NodeClient(request), namespace)
    } catch {
      do throws(CNIError) {
        try delegate.run(.delete)
      } catch let second {
        throw CNIError(error.code, error.message, details: "\(error.details); its addresses could not be given back either: \(second)")
      }
      throw error
    }
  }

  private func add(_ client: NodeClient, _ namespace: consuming OwnedDescriptor?) throws(CNIError) -> JSONValue? {
    do throws(NodeClient.Failure) {
      return try client.exchange(namespace: namespace)
    } catch {
      switch error {
      case .answered(let refusal): throw refusal
      case .undelivered(let why): throw notServing(client, why)
      case .unanswered(let why):
        // The node process may have died half-way, or attach the container after all when nobody waits for it any more.
        try client.leaveTombstone(because: why)
        throw CNIError(
          .tryAgainLater, "the node process at \(client.socketPath) did not answer: \(why)",
          details: "what it may have done is taken back; see the log of margay felix")
      }
    }
  }

  private func delete() throws(CNIError) {
    let client = NodeClient(request)
    do throws(NodeClient.Failure) {
      // The runtime may have removed the namespace already: the host's end leads to the other one.
      let namespace = request.role == .network ? open(request.call.networkNamespace) : nil
      _ = try client.exchange(namespace: namespace)
    } catch {
      switch error {
      case .answered(let refusal): throw refusal
      // The runtime would repeat a failed DEL for a while and then forget it: the file makes sure that somebody remembers.
      case .undelivered(let why), .unanswered(let why): try client.leaveTombstone(because: why)
      }
    }
    try delegate?.run(.delete)
  }

  private func check() throws(CNIError) {
    let client = NodeClient(request)
    let namespace = try openNamespace()
    try delegate?.run(.check)
    do throws(NodeClient.Failure) {
      _ = try client.exchange(namespace: namespace)
    } catch {
      switch error {
      case .answered(let refusal): throw refusal
      case .undelivered(let why), .unanswered(let why): throw notServing(client, why)
      }
    }
  }

  private func notServing(_ client: NodeClient, _ why: String) -> CNIError {
    CNIError(
      .tryAgainLater, "the node process does not serve \(client.socketPath): \(why)",
      details: "start it with `margay node` (or margay felix), or name its socket in margay.socket of the network configuration")
  }

  // MARK: The container's namespace

  /// Nil where no namespace is needed: addresses alone are no interface's.
  private func openNamespace() throws(CNIError) -> OwnedDescriptor? {
    guard request.role == .network else { return nil }
    let path = request.call.networkNamespace
    guard let namespace = open(path) else {
      throw CNIError(.invalidEnvironment, "CNI_NETNS: open network namespace \(path): \(SystemError.text(of: errno))")
    }
    guard cl_is_network_namespace(namespace.borrowed) == 1 else {
      throw CNIError(.invalidEnvironment, "CNI_NETNS: \(path) is not a network namespace")
    }
    return namespace
  }

  /// Nil with errno set when it cannot be had.
  private func open(_ path: String) -> OwnedDescriptor? {
    guard !path.isEmpty else { return nil }
    let raw = unsafe Glibc.open(path, O_RDONLY | O_CLOEXEC)
    return raw < 0 ? nil : OwnedDescriptor(owning: raw)
  }
}
