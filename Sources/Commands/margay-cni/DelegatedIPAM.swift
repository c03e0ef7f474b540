/// Another plugin that hands out the addresses (host-local, dhcp, static …), started by us as the specification has it ("Plugin delegation").
///
/// The plugin starts it, not the node process: only here are the runtime's file system, where the other plugin and its state lie, its
/// environment, and the path of the container's namespace what the runtime meant.

import CLinux
import CNIMessages
import Glibc
import JSON
import Sockets

struct DelegatedIPAM {
  let type: String
  let path: String
  /// As the runtime wrote it.
  let input: [UInt8]

  /// Nil when the node process assigns the addresses.
  init?(_ configuration: JSONValue, _ call: CNICall, input: [UInt8], program: String) throws(CNIError) {
    // An IPAM plugin does not delegate.
    guard PluginRole(program: program) == .network else { return nil }
    let whole = try NetworkConfiguration(configuration)
    guard !whole.ipam.isOurs else { return nil }
    type = whole.ipam.type
    self.input = input
    // Ours would start itself again and again.
    guard !type.contains("/"), ![program, "calico", "margay-cni"].contains(type) else {
      throw CNIError(
        .invalidConfiguration, "ipam type \"\(type)\" is no IPAM plugin", details: "calico-ipam, or one like host-local in CNI_PATH")
    }
    guard let directory = call.path.first(where: { unsafe access("\($0)/\(whole.ipam.type)", X_OK) == 0 }) else {
      throw CNIError(
        .invalidConfiguration, "ipam type \"\(type)\" is not in CNI_PATH (\(call.path.joined(separator: ":")))",
        details: "install the plugin there; or use calico-ipam, which takes addresses from the IPPools of the datastore")
    }
    path = "\(directory)/\(type)"
  }

  /// What it printed. Throws what it said when it failed.
  @discardableResult
  func run(_ command: CNICommand) throws(CNIError) -> JSONValue? {
    let code: CInt
    let output: [UInt8]
    do throws(SystemError) {
      try check(unsafe setenv("CNI_COMMAND", command.rawValue, 1), "set CNI_COMMAND")
      (code, output) = try execute()
    } catch {
      throw CNIError(.failed, "ipam plugin \(path): \(error)")
    }
    let json = try? JSONValue(parsing: output)
    guard code == 0 else {
      guard let json, let word = json["code"]?.integer, let message = json["msg"]?.string else {
        throw CNIError(.failed, "ipam plugin \(type): exit code \(code): \(String(decoding: output.prefix(500), as: UTF8.self))")
      }
      throw CNIError(CNIError.Code(rawValue: UInt32(clamping: word)), "ipam plugin \(type): \(message)", details: json["details"]?.string ?? "")
    }
    guard command == .add else { return nil }
    guard let json else {
      throw CNIError(.decodingFailure, "ipam plugin \(type): its result is no JSON: \(String(decoding: output.prefix(500), as: UTF8.self))")
    }
    return json
  }

  private func execute() throws(SystemError) -> (CInt, [UInt8]) {
    let standing = OwnedDescriptor(owning: try check(unsafe cl_memfd("netconf"), "make a file in memory"))
    try Files.write(input, descriptor: standing.borrowed, name: "the file in memory")
    try check(lseek(standing.borrowed, 0, SEEK_SET), "rewind the file in memory")
    var ends: [CInt] = [-1, -1]
    try check(unsafe cl_pipe(&ends), "make a pipe")
    let child: ChildProcess
    let output: [UInt8]
    do {
      let reading = OwnedDescriptor(owning: ends[0])
      let writing = OwnedDescriptor(owning: ends[1])
      child = try ChildCommand(path, input: standing.borrowed, output: writing.borrowed).start()
      _ = consume writing
      output = try Files.read(descriptor: reading.borrowed, name: "what \(path) prints", max: NodeProtocol.configurationMax)
      // Closed before we wait: one that prints without end is stopped by it.
      _ = consume reading
    }
    return (try child.wait(), output)
  }
}
