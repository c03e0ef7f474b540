/// How a packet's walk ends, in the words of the settings, and what a policy's verdicts mean where its chain stands.

import HostPlans
import Resources
import Rulesets

/// Bits of the packet's mark that are ours: the lowest two of `NftablesMarkMask`.
struct MarkBits: Hashable {
  /// Allowed before connection tracking or translation, for the chains behind.
  let accept: UInt32
  /// A policy passes; its group takes the bit back.
  let pass: UInt32

  /// A mask without two bits in it is not obeyed: without them no policy could be enforced.
  init(_ settings: HostSettings) {
    var mask = settings.filter.markMask
    if mask.nonzeroBitCount < 2 { mask = FilterSettings().markMask }
    accept = 1 << UInt32(mask.trailingZeroBitCount)
    pass = 1 << UInt32((mask & ~accept).trailingZeroBitCount)
  }
}

/// Where policy decides. It makes what Allow and Deny do; chains with the same answer are shared.
package enum PolicyList: String, Hashable, Sendable, CaseIterable {
  /// To, from and between workloads; the host's own traffic.
  case normal
  /// The host's own packets whose destination was translated, where they leave: there the kernel cannot reject.
  case late
  /// What the host forwards over an interface of its own.
  case forward
  /// Before connection tracking.
  case untracked
  /// Before destinations are translated.
  case preDNAT = "pre-dnat"

  var form: PolicyForm {
    switch self {
    case .normal, .forward: .standard
    case .late: .late
    case .untracked: .untracked
    case .preDNAT: .preDNAT
    }
  }
  /// Nothing is denied for lack of a policy that decides: the filter's hooks come later.
  var isEarly: Bool { self == .untracked || self == .preDNAT }
  var asksProfiles: Bool { self == .normal || self == .late }
}

/// The forms of a policy's chain, by what its verdicts do.
package enum PolicyForm: String, Hashable, Sendable, CaseIterable {
  case standard = ""
  /// Denied packets are dropped, never rejected.
  case late = "late-"
  /// What is allowed is not tracked, and is marked, so that the chains behind ask nothing; what is denied is dropped.
  case untracked = "untracked-"
  /// What is allowed is marked; what is denied is dropped.
  case preDNAT = "pre-dnat-"
}

/// What the rules of one chain end in.
struct Verdicts {
  let marks: MarkBits
  /// Of a policy that is only counted: whatever decides ends it.
  let isStaged: Bool
  /// It answers the question of this hook's priority alone: a second workload's policy has a base chain of its own.
  let allow: [Statement]
  let deny: [Statement]
  let pass: [Statement]
  /// The kernel tells whoever listens which rule denied a packet.
  private let tells: Bool

  /// Counts, tells, denies.
  func denying(_ prefix: FlowPrefix) -> [Statement] { [.counter] + (tells ? prefix.telling : []) + deny }

  init(_ settings: HostSettings, _ form: PolicyForm, isStaged: Bool = false) {
    marks = MarkBits(settings)
    self.isStaged = isStaged
    tells = settings.filter.tellsDrops && !isStaged
    pass = [.setMarkBits(marks.pass), .return]
    guard !isStaged else {
      (allow, deny) = (pass, pass)
      return
    }
    switch form {
    case .standard: (allow, deny) = ([.accept], [settings.denial])
    case .late: (allow, deny) = ([.accept], [.drop])
    case .untracked: (allow, deny) = ([.setMarkBits(marks.accept), .notrack, .accept], [.drop])
    case .preDNAT: (allow, deny) = ([.setMarkBits(marks.accept), .accept], [.drop])
    }
  }
}

extension HostSettings {
  /// What becomes of a packet that policy denies; not before connection tracking, and not where packets leave.
  var denial: Statement { filter.deny == .reject ? .goto(KernelNames.reject) : .drop }
}
