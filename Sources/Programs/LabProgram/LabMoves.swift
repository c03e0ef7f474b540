/// A workload moves to another host: DEL there, ADD here, in the same namespace and with the same addresses, as a live migration would.
/// Its sockets stay, so connections go on when the routes have followed.
import Addresses

extension Lab {
  public func move(_ name: String, to hostName: String) throws {
    let workload = try workload(name)
    let host = try host(hostName)
    guard let present = attached[name] else { throw LabProblem("workload \(name) is not attached anywhere") }
    guard present.host != host.name else { throw LabProblem("workload \(name) is on \(host.name) already") }
    let addresses = present.addresses.values.sorted()
    try delete(workload)
    do {
      try add(workload, on: host.name, addresses: addresses)
    } catch {
      // A workload without a network would be the worst outcome of a move that was refused.
      try add(workload, on: present.host, addresses: addresses)
      try writeRecord()
      throw LabProblem("\(name) stays on \(present.host): \(error)")
    }
    try writeRecord()
  }
}
