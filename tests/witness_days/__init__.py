"""Days at a site with a witness, faults and all, through the real core: no call that still ran is closed by it."""
