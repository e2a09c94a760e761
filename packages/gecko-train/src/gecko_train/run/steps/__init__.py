"""The steps of a journey, one file each; ``gecko_train.run.journey.STEPS`` puts them in order."""
