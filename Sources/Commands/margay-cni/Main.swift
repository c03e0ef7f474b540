/// The plugin that container runtimes start for each call: a thin client of the node process.
///
/// It reads the environment and standard input, opens the container's namespace, hands both to the node process over a unix socket and
/// prints what comes back. It is static and has neither Foundation nor tasks, because its start-up is part of every container's start. It
/// answers VERSION by itself, and a DEL that finds no node process is left on disk, where the node finds it.

import CLinux
import CNIMessages
import Glibc
import JSON
import Sockets

@main
struct Main {
  static func main() {
    let arguments = CommandLine.arguments
    let program = arguments[0].split(separator: "/").last.map(String.init) ?? "margay-cni"
    if arguments.count > 1, ["-v", "--version", "-h", "--help"].contains(arguments[1]) {
      let versions = CNIVersion.allCases.map(\.rawValue).joined(separator: ", ")
      printLine("\(program): CNI plugin of Margay, protocol \(NodeProtocol.version), CNI versions \(versions)")
      return
    }
    var version: CNIVersion?
    do throws(CNIError) {
      let call = try CNICall(environment: variable)
      let configuration = try readConfiguration(optional: call.command == .version)
      if call.command == .version {
        printLine(CNIVersion.reply(to: configuration).text())
        return
      }
      guard let configuration else { throw CNIError(.decodingFailure, "failed to load netconf: standard input is empty") }
      version = try CNIVersion(configuration: configuration)
      guard program != "calico-ipam" else {
        throw CNIError(
          .invalidConfiguration, "calico-ipam is not a plugin of its own here",
          details: "the node process assigns addresses itself when the network's type is calico or margay-cni")
      }
      if let result = try perform(NodeRequest(call: call, configuration: configuration)) { printLine(result.text(pretty: true)) }
    } catch {
      printLine(error.json(version: version).text(pretty: true))
      exit(1)
    }
  }

  static func perform(_ request: NodeRequest) throws(CNIError) -> JSONValue? {
    let client = NodeClient(request)
    switch request.call.command {
    case .delete:
      do throws(NodeClient.Failure) {
        return try client.exchange(namespace: openNamespace(request.call.networkNamespace))
      } catch {
        switch error {
        case .answered(let refusal): throw refusal
        case .undelivered(let why):
          // The runtime would repeat a failed DEL for a while and then forget it: the file makes sure that somebody remembers.
          try client.leaveTombstone(because: why)
          return nil
        }
      }
    case .add, .check:
      guard let namespace = openNamespace(request.call.networkNamespace) else {
        throw CNIError(
          .inputOutput, "open network namespace \(request.call.networkNamespace): \(SystemError.text(of: errno))")
      }
      do throws(NodeClient.Failure) {
        return try client.exchange(namespace: namespace)
      } catch {
        switch error {
        case .answered(let refusal): throw refusal
        case .undelivered(let why):
          throw CNIError(
            .tryAgainLater, "the node process does not serve \(client.socketPath): \(why)",
            details: "start it with `margay node` (or margay felix), or name its socket in margay.socket of the network configuration")
        }
      }
    case .version: return nil
    }
  }

  static func variable(_ name: String) -> String? {
    guard let value = unsafe getenv(name) else { return nil }
    return unsafe String(cString: value)
  }

  static func readConfiguration(optional: Bool) throws(CNIError) -> JSONValue? {
    let octets: [UInt8]
    do throws(SystemError) {
      octets = try Files.read(descriptor: 0, name: "standard input")
    } catch {
      if optional { return nil }
      throw CNIError(.inputOutput, "\(error)")
    }
    if octets.allSatisfy({ $0 <= 0x20 }) { return nil }
    do throws(JSONError) {
      return try JSONValue(parsing: octets)
    } catch {
      if optional { return nil }
      throw CNIError(.decodingFailure, "failed to load netconf: standard input:\(error)")
    }
  }

  /// Nil with errno set when it cannot be had.
  static func openNamespace(_ path: String) -> OwnedDescriptor? {
    guard !path.isEmpty else { return nil }
    let raw = unsafe open(path, O_RDONLY | O_CLOEXEC)
    return raw < 0 ? nil : OwnedDescriptor(owning: raw)
  }

  static func printLine(_ text: String) {
    try? Files.write(Array(text.utf8) + [0x0a], descriptor: 1, name: "standard output")
  }
}
